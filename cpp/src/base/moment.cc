#include "base/moment.h"

#include <array>
#include <charconv>
#include <chrono>
#include <cstdio>

namespace spanbox {
namespace {

constexpr std::int64_t kSecondNs = 1'000'000'000, kDaySeconds = 86'400;

// Reads numbers of fixed width off the front of a text.
class Digits {
 public:
  explicit Digits(std::string_view text) : text_(text) {}

  bool Number(std::size_t width, int& number) {
    if (text_.size() < width) return false;
    const char* const end = text_.data() + width;
    for (const char* c = text_.data(); c != end; ++c) {
      if (*c < '0' || *c > '9') return false;
    }
    std::from_chars(text_.data(), end, number);
    text_.remove_prefix(width);
    return true;
  }
  bool Take(char c) {
    if (text_.empty() || text_.front() != c) return false;
    text_.remove_prefix(1);
    return true;
  }
  // The digits behind a decimal point, as nanoseconds; more than nine are cut.
  bool Fraction(std::int64_t& ns) {
    std::int64_t unit = kSecondNs;
    bool any = false;
    for (; !text_.empty() && text_.front() >= '0' && text_.front() <= '9'; text_.remove_prefix(1)) {
      unit /= 10;
      ns += (text_.front() - '0') * unit;
      any = true;
    }
    return any;
  }
  bool empty() const { return text_.empty(); }

 private:
  std::string_view text_;
};

bool ReadTime(Digits& in, std::int64_t& seconds, std::int64_t& ns) {
  int hour = 0, minute = 0, second = 0;
  if (!in.Number(2, hour) || !in.Take(':') || !in.Number(2, minute)) return false;
  if (in.Take(':')) {
    if (!in.Number(2, second)) return false;
    if ((in.Take('.') || in.Take(',')) && !in.Fraction(ns)) return false;
  }
  seconds += hour * 3600 + minute * 60 + second;
  return hour < 24 && minute < 60 && second <= 60;
}

bool ReadZone(Digits& in, std::int64_t& seconds) {
  if (in.empty() || in.Take('Z') || in.Take('z')) return true;
  const int sign = in.Take('+') ? -1 : in.Take('-') ? 1 : 0;
  int hours = 0, minutes = 0;
  if (sign == 0 || !in.Number(2, hours)) return false;
  in.Take(':');
  if (!in.empty() && !in.Number(2, minutes)) return false;
  seconds += sign * (hours * 3600 + minutes * 60);
  return hours < 24 && minutes < 60;
}

void AppendFraction(std::int64_t ns, std::string& out) {
  if (ns == 0) return;
  std::array<char, 16> text;
  std::snprintf(text.data(), text.size(), ".%09lld", static_cast<long long>(ns));
  out += text.data();
  out.resize(out.find_last_not_of('0') + 1);
}

}  // namespace

std::optional<std::int64_t> ParseMoment(std::string_view text) {
  Digits in(text);
  int year = 0, month = 0, day = 0;
  if (!in.Number(4, year) || !in.Take('-') || !in.Number(2, month) || !in.Take('-') || !in.Number(2, day)) return {};
  const std::chrono::year_month_day date(std::chrono::year(year), std::chrono::month(static_cast<unsigned>(month)),
                                         std::chrono::day(static_cast<unsigned>(day)));
  if (!date.ok()) return {};
  std::int64_t seconds = std::chrono::sys_days(date).time_since_epoch().count() * kDaySeconds, ns = 0;
  if (in.Take('T') || in.Take('t') || in.Take(' ')) {
    if (!ReadTime(in, seconds, ns) || !ReadZone(in, seconds)) return {};
  }
  if (!in.empty() || __builtin_mul_overflow(seconds, kSecondNs, &seconds) ||
      __builtin_add_overflow(seconds, ns, &seconds)) {
    return {};
  }
  return seconds;
}

std::string FormatDay(std::int64_t days) {
  constexpr std::int64_t kLast = 2'932'896;  // 9999-12-31
  constexpr std::int64_t kFirst = -719'528;  // 0000-01-01
  if (days < kFirst || days > kLast) return std::to_string(days);
  const std::chrono::year_month_day date{std::chrono::sys_days(std::chrono::days(days))};
  std::array<char, 32> text;
  std::snprintf(text.data(), text.size(), "%04d-%02u-%02u", static_cast<int>(date.year()),
                static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()));
  return text.data();
}

std::string FormatTimeOfDay(std::int64_t ns) {
  const std::int64_t seconds = ns / kSecondNs;
  std::array<char, 64> text;
  std::snprintf(text.data(), text.size(), "%02lld:%02lld:%02lld", static_cast<long long>(seconds / 3600),
                static_cast<long long>(seconds / 60 % 60), static_cast<long long>(seconds % 60));
  std::string out = text.data();
  AppendFraction(ns % kSecondNs, out);
  return out;
}

std::string FormatMoment(std::int64_t ns, bool utc) {
  constexpr std::int64_t kDayNs = kDaySeconds * kSecondNs;
  const std::int64_t day = ns / kDayNs - (ns % kDayNs < 0 ? 1 : 0);
  const std::int64_t rest = ns % kDayNs + (ns % kDayNs < 0 ? kDayNs : 0);
  return FormatDay(day) + "T" + FormatTimeOfDay(rest) + (utc ? "Z" : "");
}

}  // namespace spanbox
