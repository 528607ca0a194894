// Buckets of time: equally long ones in UTC, or as clocks and calendars of a time zone show them.
//
// With a time zone a bucket begins whenever clocks there show a multiple of its length, counted from midnight of
// 1970-01-01. So hours stay hours where clocks are put back (the repeated hour is a bucket of its own), and a bucket of
// days begins with a day, which may have 23 or 25 hours.
//
// Thread rule: one thread. Ownership: a value.
// Invariant: buckets follow each other without gaps: of two moments in one, all between are in it.
// Units: nanoseconds since 1970 UTC.
#pragma once

#include <absl/time/time.h>

#include <cstdint>
#include <optional>
#include <string>

#include "spanbox/status.h"

namespace spanbox {

class TimeBuckets {
 public:
  // every_ns == 0: no buckets. time_zone: empty or an IANA name. InvalidArgument: no such zone, or a negative length.
  static Result<TimeBuckets> Make(std::int64_t every_ns, const std::string& time_zone);

  bool none() const { return every_ns_ == 0; }

  // When the bucket of this moment begins. REQUIRES: !none().
  std::int64_t BucketOf(std::int64_t start_ns) {
    // Neighbours often lie in one bucket.
    if (start_ns >= begin_ns_ && start_ns <= known_until_ns_) return begin_ns_;
    return Find(start_ns);
  }
  // All moments from its beginning up to this one are in the bucket that BucketOf has given last.
  std::int64_t known_until_ns() const { return known_until_ns_; }

 private:
  TimeBuckets() = default;
  std::int64_t Find(std::int64_t start_ns);
  std::int64_t LocalBucketOf(std::int64_t start_ns) const;

  std::int64_t every_ns_ = 0;
  std::optional<absl::TimeZone> zone_;
  std::int64_t begin_ns_ = 0, known_until_ns_ = -1;  // these and all between are one bucket, which begins at the first
};

}  // namespace spanbox
