#include "query/time_buckets.h"

#include <absl/time/civil_time.h>

#include <algorithm>
#include <limits>

#include "query/lexer.h"

namespace spanbox {
namespace {

__extension__ using Wide = __int128;

constexpr std::int64_t kSecondNs = 1'000'000'000, kDayNs = 86'400 * kSecondNs;
constexpr std::int64_t kEarliest = std::numeric_limits<std::int64_t>::min();
constexpr std::int64_t kLatest = std::numeric_limits<std::int64_t>::max();

Wide Floor(Wide value, Wide step) {
  const Wide past = value % step;
  return value - (past < 0 ? past + step : past);
}

std::int64_t Clamped(Wide value) {
  return value < kEarliest ? kEarliest : value > kLatest ? kLatest : static_cast<std::int64_t>(value);
}

Wide NanosecondsOf(absl::Time time) { return Wide{absl::ToUnixSeconds(time)} * kSecondNs; }  // whole seconds only

// A name of the time zone database, not a path.
bool MayBeZone(std::string_view name) {
  const auto fits = [](char c) { return absl::string_view("_+-/").find(c) != absl::string_view::npos; };
  const auto plain = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'); };
  return !name.empty() && name.front() != '/' && name.size() < 64 &&
         std::ranges::all_of(name, [&](char c) { return plain(c) || fits(c); });
}

}  // namespace

Result<TimeBuckets> TimeBuckets::Make(std::int64_t every_ns, const std::string& time_zone) {
  if (every_ns < 0) return InvalidArgument("the time bucket must be longer than nothing");
  TimeBuckets buckets;
  buckets.every_ns_ = every_ns;
  if (time_zone.empty()) return buckets;
  if (every_ns == 0) return InvalidArgument("a time zone is of buckets of time: give their length, too");
  absl::TimeZone zone;
  if (!MayBeZone(time_zone) || !absl::LoadTimeZone(time_zone, &zone)) {
    return InvalidArgument("no time zone " + Quoted(time_zone) +
                           " on this machine: write a name such as Europe/Berlin or America/New_York, or UTC");
  }
  buckets.zone_ = zone;
  return buckets;
}

std::int64_t TimeBuckets::Find(std::int64_t start_ns) {
  if (!zone_) {
    begin_ns_ = Clamped(Floor(start_ns, every_ns_));
    known_until_ns_ = Clamped(Floor(start_ns, every_ns_) + every_ns_ - 1);
    return begin_ns_;
  }
  const std::int64_t begin_ns = LocalBucketOf(start_ns);
  // Moments that follow are likely to be asked next: a part of the bucket ahead, if it is still this one.
  const std::int64_t ahead_ns = Clamped(Wide{start_ns} + every_ns_ / 16);
  const bool same = LocalBucketOf(ahead_ns) == begin_ns;
  known_until_ns_ = std::max(same ? ahead_ns : start_ns, begin_ns == begin_ns_ ? known_until_ns_ : start_ns);
  begin_ns_ = begin_ns;
  return begin_ns_;
}

std::int64_t TimeBuckets::LocalBucketOf(std::int64_t start_ns) const {
  const absl::Time start = absl::FromUnixNanos(start_ns);
  const absl::CivilSecond epoch(1970);
  const absl::CivilSecond shown = zone_->At(start).cs;
  const std::int64_t past_second_ns = start_ns - static_cast<std::int64_t>(Floor(start_ns, kSecondNs));
  const Wide local_ns = Wide{shown - epoch} * kSecondNs + past_second_ns;
  const Wide floor_ns = Floor(local_ns, every_ns_);
  const Wide second_ns = Floor(floor_ns, kSecondNs);
  const absl::TimeZone::TimeInfo begin = zone_->At(epoch + static_cast<absl::civil_diff_t>(second_ns / kSecondNs));
  const Wide fraction_ns = floor_ns - second_ns;
  Wide at_ns = NanosecondsOf(begin.pre) + fraction_ns;
  if (begin.kind == absl::TimeZone::TimeInfo::SKIPPED) {
    at_ns = NanosecondsOf(begin.trans);  // clocks jump over the beginning: it begins with the jump
  } else if (begin.kind == absl::TimeZone::TimeInfo::REPEATED && every_ns_ % kDayNs != 0) {
    const Wide again_ns = NanosecondsOf(begin.post) + fraction_ns;
    if (again_ns <= start_ns) at_ns = again_ns;
  }
  // Clocks may have shown a later beginning before they were put back.
  absl::TimeZone::CivilTransition back;
  if (every_ns_ % kDayNs != 0 && zone_->PrevTransition(start + absl::Seconds(1), &back) && back.to < back.from) {
    const Wide back_ns = NanosecondsOf(zone_->At(back.to).trans);
    if (back_ns > start_ns || back_ns <= at_ns) return Clamped(at_ns);
    const Wide last_ns = Floor(Wide{back.from - epoch} * kSecondNs - 1, every_ns_);
    const Wide last_second_ns = Floor(last_ns, kSecondNs);
    const auto last = zone_->At(epoch + static_cast<absl::civil_diff_t>(last_second_ns / kSecondNs));
    at_ns = std::max(at_ns, NanosecondsOf(last.pre) + last_ns - last_second_ns);
  }
  return Clamped(at_ns);
}

}  // namespace spanbox
