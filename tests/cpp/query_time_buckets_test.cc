// Buckets of time in time zones: what holds of them for every length, and days. Python compares them with zoneinfo.
#include <absl/time/civil_time.h>
#include <gtest/gtest.h>

#include "query/time_buckets.h"

namespace spanbox {
namespace {

constexpr std::int64_t kMinuteNs = 60'000'000'000, kHourNs = 60 * kMinuteNs, kDayNs = 24 * kHourNs;

std::int64_t Utc(int year, int month, int day, int hour = 0, int minute = 0) {
  return absl::ToUnixNanos(absl::FromCivil(absl::CivilMinute(year, month, day, hour, minute), absl::UTCTimeZone()));
}

// Clocks there are put forward and back in the hours after midnight, at midnight, by half an hour, and never.
constexpr const char* kZones[] = {"Europe/Berlin", "America/Havana", "Africa/Cairo",     "Australia/Lord_Howe",
                                  "Asia/Kolkata",  "Asia/Kathmandu", "America/New_York", "UTC"};

// Near a day of 2025 on which clocks are changed in one of them.
bool Around(std::int64_t t, std::int64_t room_ns) {
  constexpr std::pair<int, int> kDays[] = {{3, 9}, {3, 30}, {4, 6}, {4, 25}, {10, 5}, {10, 26}, {10, 30}, {11, 2}};
  for (const auto& [month, day] : kDays) {
    if (t > Utc(2025, month, day) - room_ns && t < Utc(2025, month, day + 1) + room_ns) return true;
  }
  return false;
}

TEST(TimeBucketsTest, FollowEachOtherWithoutGapsInEveryZone) {
  for (const char* zone : kZones) {
    for (const std::int64_t every :
         {kMinuteNs * 7, kMinuteNs * 15, kMinuteNs * 45, kHourNs, kMinuteNs * 150, 6 * kHourNs, kDayNs, 7 * kDayNs}) {
      auto made = TimeBuckets::Make(every, zone);
      ASSERT_TRUE(made.ok()) << made.status().message();
      std::int64_t before = std::numeric_limits<std::int64_t>::min();
      std::int64_t t = 0;
      const auto next = [&] { return Around(t, kDayNs) ? t + 11 * kMinuteNs : t + 5 * kHourNs + kMinuteNs; };
      for (t = Utc(2025, 2, 25); t < Utc(2025, 12, 1); t = next()) {
        const std::int64_t begin = made->BucketOf(t);
        ASSERT_LE(begin, t) << zone << " " << every;
        ASSERT_GE(begin, before) << zone << " " << every << " at " << t;
        if (begin != before) {  // asked afresh, in another order
          auto fresh = *TimeBuckets::Make(every, zone);
          ASSERT_EQ(fresh.BucketOf(begin), begin) << zone << " " << every << " at " << t;
          ASSERT_LT(fresh.BucketOf(begin - 1), begin) << zone << " " << every << " at " << t;
          ASSERT_EQ(fresh.BucketOf(t), begin);
          ASSERT_GT(begin + every + 2 * kHourNs, t) << zone << " " << every;
        }
        before = begin;
      }
    }
  }
}

TEST(TimeBucketsTest, DaysBeginAtLocalMidnight) {
  auto days = *TimeBuckets::Make(kDayNs, "Europe/Berlin");
  EXPECT_EQ(days.BucketOf(Utc(2026, 3, 29, 21, 59)), Utc(2026, 3, 28, 23));  // 23 hours: clocks were put forward
  EXPECT_EQ(days.BucketOf(Utc(2026, 3, 29, 22)), Utc(2026, 3, 29, 22));
  EXPECT_EQ(days.BucketOf(Utc(2026, 10, 25, 22, 59)), Utc(2026, 10, 24, 22));  // 25 hours
  EXPECT_EQ(days.BucketOf(Utc(2026, 10, 25, 23)), Utc(2026, 10, 25, 23));
  auto cairo = *TimeBuckets::Make(kDayNs, "Africa/Cairo");  // that day has no midnight: it begins at one o'clock
  EXPECT_EQ(cairo.BucketOf(Utc(2025, 4, 25, 12)), Utc(2025, 4, 24, 22));
}

TEST(TimeBucketsTest, RepeatedHourIsABucketOfItsOwn) {
  auto hours = *TimeBuckets::Make(kHourNs, "Europe/Berlin");
  EXPECT_EQ(hours.BucketOf(Utc(2026, 10, 25, 0, 30)), Utc(2026, 10, 25, 0));
  EXPECT_EQ(hours.BucketOf(Utc(2026, 10, 25, 1, 30)), Utc(2026, 10, 25, 1));
}

TEST(TimeBucketsTest, WithoutZoneBeginAtMultiplesSince1970) {
  auto buckets = *TimeBuckets::Make(10, "");
  EXPECT_EQ(buckets.BucketOf(-1), -10);
  EXPECT_EQ(buckets.BucketOf(0), 0);
  EXPECT_EQ(buckets.BucketOf(19), 10);
}

TEST(TimeBucketsTest, UnknownZonesAreRefused) {
  for (const char* zone : {"Europe/Atlantis", "/etc/localtime", "../zoneinfo/UTC", "file:UTC", "Europe/Berlin\n"}) {
    const auto made = TimeBuckets::Make(kDayNs, zone);
    ASSERT_FALSE(made.ok()) << zone;
    EXPECT_EQ(made.status().code(), StatusCode::kInvalidArgument);
  }
  EXPECT_FALSE(TimeBuckets::Make(0, "Europe/Berlin").ok());
  EXPECT_FALSE(TimeBuckets::Make(-1, "").ok());
}

}  // namespace
}  // namespace spanbox
