// Moments and days as ISO 8601 text.
//
// Thread rule: pure functions. Units: nanoseconds since 1970-01-01T00:00:00Z.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace spanbox {

// 2026-11-21, 2026-11-21T09:30, T09:30:00, T09:30:00.123456789, each with Z or +02:00 or nothing (UTC); a blank for T.
// nullopt: it is none of these, or before 1677-09-21 or after 2262-04-11, which nanoseconds do not reach.
std::optional<std::int64_t> ParseMoment(std::string_view text);

// 2026-11-21T09:30:00.5, as many digits as it takes; "Z" behind it when `utc`.
std::string FormatMoment(std::int64_t ns, bool utc);
std::string FormatDay(std::int64_t days);      // since 1970-01-01; a number of days beyond the year 9999
std::string FormatTimeOfDay(std::int64_t ns);  // 09:30:00.5

}  // namespace spanbox
