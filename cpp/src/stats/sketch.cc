#include "spanbox/sketch.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/coding.h"

namespace spanbox {
namespace {

constexpr std::uint8_t kVersion = 1;

// Magnitudes below count as zero; magnitudes above are clamped. Every int64 lies inside.
constexpr double kMinMagnitude = 1e-9;
constexpr double kMaxMagnitude = 0x1p63;

// Empty buckets made below a new lowest one, so that a widening stream does not move the others at every value.
constexpr std::int32_t kSlack = 16;

// What a first sketch that is merged leaves for those that come after it, which are seldom wider by more.
constexpr std::size_t kRoom = 64;

// The cubic P with P(0) = 0 and P(1) = 1 that makes e + P(s) closest to log2(2^e (1 + s)) in the sense that matters
// here: the least slope of P against ln(1 + s) is as large as a cubic allows, 10/7 (log2 itself: 1/ln 2 = 1.4427).
constexpr double kA = 6.0 / 35, kB = -3.0 / 5, kC = 10.0 / 7;

// The guarantee is kept with this much to spare, which is more than rounding can take.
constexpr double kRoundingRoom = 1e-9;

[[gnu::always_inline]] inline double InterpolatedLog(double magnitude) {
  const auto bits = std::bit_cast<std::uint64_t>(magnitude);
  const auto exponent = static_cast<std::int32_t>(bits >> 52) - 1023;
  const double s = std::bit_cast<double>((bits & 0x000FFFFFFFFFFFFF) | 0x3FF0000000000000) - 1.0;
  return exponent + ((kA * s + kB) * s + kC) * s;
}

// floor(InterpolatedLog * multiplier), without the call that std::floor is before SSE 4.1.
[[gnu::always_inline]] inline std::int32_t BucketIndex(double magnitude, double multiplier) {
  const double scaled = InterpolatedLog(magnitude) * multiplier;
  const auto truncated = static_cast<std::int32_t>(scaled);
  return truncated - static_cast<std::int32_t>(scaled < truncated);
}

double InverseInterpolatedLog(double y) {
  const double exponent = std::floor(y);
  const double target = y - exponent;
  double s = target;
  for (int i = 0; i < 8; ++i) {  // Newton; P' is at least 26/35, three or four steps reach the last bit
    s -= (((kA * s + kB) * s + kC) * s - target) / ((3 * kA * s + 2 * kB) * s + kC);
  }
  return std::ldexp(1.0 + s, static_cast<int>(exponent));
}

std::string At(const char* what, std::size_t offset) {
  return std::string("sketch: ") + what + " at byte " + std::to_string(offset);
}

}  // namespace

DDSketch::DDSketch(double relative_error)
    : relative_error_(relative_error),
      min_(std::numeric_limits<double>::quiet_NaN()),
      max_(std::numeric_limits<double>::quiet_NaN()) {
  assert(relative_error >= kMinRelativeError && relative_error < 1);
  // A bucket [low, high) answered by 2 low high / (low + high) errs by (high - low) / (high + low), so high / low may
  // be (1 + a) / (1 - a). One step of the interpolated logarithm is at most 7/10 of a step of ln.
  const double a = relative_error * (1 - kRoundingRoom);
  multiplier_ = 7.0 / (10.0 * (std::log1p(a) - std::log1p(-a)));
}

std::int32_t DDSketch::Index(double magnitude) const { return BucketIndex(magnitude, multiplier_); }

double DDSketch::Magnitude(std::int32_t index) const {
  const auto compute = [](std::int32_t i, double multiplier) {
    const double low = InverseInterpolatedLog(i / multiplier);
    const double high = InverseInterpolatedLog((i + 1) / multiplier);
    return 2 * low / (low + high) * high;
  };
  // Known of the usual error, from 1 to the largest integer: computing one takes as long as a look at all buckets.
  static constexpr std::int32_t kKnown = 2304;
  static const std::vector<double> known = [&] {
    const DDSketch usual;
    std::vector<double> magnitudes;
    for (std::int32_t i = 0; i < kKnown; ++i) magnitudes.push_back(compute(i, usual.multiplier_));
    return magnitudes;
  }();
  const bool usual = relative_error_ == kDefaultRelativeError && index >= 0 && index < kKnown;
  return usual ? known[static_cast<std::size_t>(index)] : compute(index, multiplier_);
}

// The highest bucket is never empty, and there are at most kMaxBuckets: what is too small for that joins the lowest.
void DDSketch::Counts::Add(std::int32_t index, std::uint64_t count) {
  if (static_cast<std::uint32_t>(index - first) < counts.size()) [[likely]] {
    counts[static_cast<std::uint32_t>(index - first)] += count;
    return;
  }
  constexpr auto kMost = static_cast<std::int32_t>(kMaxBuckets);
  if (counts.empty()) {
    first = index;
    counts.push_back(count);
    return;
  }
  const std::int32_t top = first + static_cast<std::int32_t>(counts.size()) - 1;
  if (index > top) {
    const std::int32_t lowest = index - kMost + 1;
    if (lowest > first) {
      const auto cut = counts.begin() + std::min(lowest - first, top - first + 1);
      const std::uint64_t folded = std::accumulate(counts.begin(), cut, std::uint64_t{0});
      counts.erase(counts.begin(), cut);
      first = lowest;
      counts.resize(kMaxBuckets);
      counts.front() += folded;
    } else {
      counts.resize(static_cast<std::size_t>(index - first) + 1);
    }
  } else {
    const std::int32_t lowest = top - kMost + 1;
    index = std::max(index, lowest);
    if (index < first) {
      const std::int32_t from = std::max(index - kSlack, lowest);
      counts.insert(counts.begin(), static_cast<std::size_t>(first - from), 0);
      first = from;
    }
  }
  counts[static_cast<std::size_t>(index - first)] += count;
}

void DDSketch::Counts::Add(std::int32_t from, std::span<const std::uint32_t> more) {
  while (!more.empty() && more.back() == 0) more = more.first(more.size() - 1);
  if (more.empty()) return;
  const auto size = static_cast<std::int32_t>(counts.size()), more_size = static_cast<std::int32_t>(more.size());
  const std::int32_t begin = size == 0 ? from : std::min(first, from);
  const std::int32_t end = size == 0 ? from + more_size : std::max(first + size, from + more_size);
  if (end - begin > static_cast<std::int32_t>(kMaxBuckets)) {  // from the top, so that the lowest ones join
    for (std::size_t i = more.size(); i-- > 0;) {
      if (more[i] != 0) Add(from + static_cast<std::int32_t>(i), more[i]);
    }
    return;
  }
  if (size == 0) counts.reserve(more.size() + kRoom);
  if (size > 0 && begin < first) counts.insert(counts.begin(), static_cast<std::size_t>(first - begin), 0);
  first = begin;
  counts.resize(static_cast<std::size_t>(end - begin));
  std::uint64_t* const to = counts.data() + (from - begin);
  for (std::size_t i = 0; i < more.size(); ++i) to[i] += more[i];
}

void DDSketch::AddCount(double value, std::uint64_t count) {
  if (std::isnan(value) || count == 0) return;
  const double v = std::clamp(value, -kMaxMagnitude, kMaxMagnitude);
  if (v >= kMinMagnitude) {
    positive_.Add(Index(v), count);
  } else if (v <= -kMinMagnitude) {
    negative_.Add(Index(-v), count);
  } else {
    zeros_ += count;
  }
  if (!(min_ <= v)) min_ = v;  // also when NaN, the first time
  if (!(max_ >= v)) max_ = v;
  sum_ += v * static_cast<double>(count);
  count_ += count;
}

// The common case, a positive value whose bucket is there, without the general case's detours.
void DDSketch::Add(double value) {
  if (value >= kMinMagnitude && value <= kMaxMagnitude) [[likely]] {
    const auto place = static_cast<std::uint32_t>(BucketIndex(value, multiplier_) - positive_.first);
    if (place < positive_.counts.size()) [[likely]] {
      ++positive_.counts[place];
      ++count_;
      sum_ += value;
      if (value < min_) min_ = value;  // neither is NaN: a bucket is there
      if (value > max_) max_ = value;
      return;
    }
  }
  AddCount(value, 1);
}

// In blocks: places first, which depend on nothing, then the counting, with what is shared kept in registers.
void DDSketch::Add(std::span<const double> values) {
  constexpr std::size_t kBlock = 256;
  std::int32_t places[kBlock];
  while (!values.empty()) {
    const std::span<const double> block = values.first(std::min(values.size(), kBlock));
    values = values.subspan(block.size());
    bool plain = count_ > 0;  // then min_ and max_ are numbers
    for (std::size_t i = 0; i < block.size(); ++i) {
      plain &= block[i] >= kMinMagnitude && block[i] <= kMaxMagnitude;
      places[i] = BucketIndex(block[i], multiplier_) - positive_.first;
    }
    const auto size = static_cast<std::uint32_t>(positive_.counts.size());
    for (std::size_t i = 0; i < block.size(); ++i) plain &= static_cast<std::uint32_t>(places[i]) < size;
    if (!plain) {
      for (const double value : block) Add(value);
      continue;
    }
    double sum = sum_, least = min_, most = max_;
    for (std::size_t i = 0; i < block.size(); ++i) {
      ++positive_.counts[static_cast<std::uint32_t>(places[i])];
      sum += block[i];
      least = std::min(least, block[i]);
      most = std::max(most, block[i]);
    }
    sum_ = sum;
    min_ = least;
    max_ = most;
    count_ += block.size();
  }
}

Status DDSketch::Merge(const DDSketch& other) {
  if (other.relative_error_ != relative_error_) {
    return InvalidArgument("sketches with relative errors " + std::to_string(relative_error_) + " and " +
                           std::to_string(other.relative_error_) + " cannot be merged: make both with the same one");
  }
  if (other.count_ == 0) return OkStatus();
  const auto merge = [](Counts& into, const Counts& from) {
    for (std::size_t i = from.counts.size(); i-- > 0;) {  // from the top, so that the room is right at once
      if (from.counts[i] != 0) into.Add(from.first + static_cast<std::int32_t>(i), from.counts[i]);
    }
  };
  if (this == &other) {
    const DDSketch copy = other;
    return Merge(copy);
  }
  merge(positive_, other.positive_);
  merge(negative_, other.negative_);
  zeros_ += other.zeros_;
  if (!(min_ <= other.min_)) min_ = other.min_;
  if (!(max_ >= other.max_)) max_ = other.max_;
  sum_ += other.sum_;
  count_ += other.count_;
  return OkStatus();
}

DDSketch::Buckets DDSketch::Positive() const {
  const auto filled = [](std::uint64_t count) { return count != 0; };
  const auto& counts = positive_.counts;
  const auto begin = std::find_if(counts.begin(), counts.end(), filled);
  const auto end = std::find_if(counts.rbegin(), std::make_reverse_iterator(begin), filled).base();
  const auto skipped = static_cast<std::int32_t>(begin - counts.begin());
  return {positive_.first + skipped, {begin, end}};
}

Status DDSketch::Merge(const Part& part) {
  const auto size = static_cast<std::int64_t>(part.counts.size());
  if (part.count == 0) return OkStatus();
  constexpr std::int64_t kMaxIndex = std::int64_t{1} << 20;  // far beyond what a number can have
  const bool possible = size <= static_cast<std::int64_t>(kMaxBuckets) && part.first >= -kMaxIndex &&
                        part.first <= kMaxIndex && part.min <= part.max && part.min >= 0;
  if (!possible) return DataLoss("sketch: impossible buckets");
  std::uint64_t counted = 0;
  for (const std::uint32_t count : part.counts) counted += count;
  if (counted > part.count) return DataLoss("sketch: more values in buckets than there are");
  positive_.Add(static_cast<std::int32_t>(part.first), part.counts);
  zeros_ += part.count - counted;
  if (!(min_ <= part.min)) min_ = part.min;
  if (!(max_ >= part.max)) max_ = part.max;
  sum_ += part.sum;
  count_ += part.count;
  return OkStatus();
}

std::uint64_t DDSketch::RankOf(double q, std::uint64_t count) {
  const double place = std::floor(q * static_cast<double>(count - 1));
  return place < 0x1p64 ? static_cast<std::uint64_t>(place) : count - 1;
}

double DDSketch::QuantileOfSorted(std::span<const double> values, double q) const {
  const auto clamped = [](double value) { return std::clamp(value, -kMaxMagnitude, kMaxMagnitude); };
  const double value = clamped(values[RankOf(q, values.size())]);
  const double size = std::abs(value);
  const double answer = size < kMinMagnitude ? 0 : std::copysign(Magnitude(Index(size)), value);
  return std::clamp(answer, clamped(values.front()), clamped(values.back()));
}

double DDSketch::Quantile(double q) const {
  if (count_ == 0) return std::numeric_limits<double>::quiet_NaN();
  const std::uint64_t rank = RankOf(q, count_);
  std::uint64_t seen = 0;
  for (std::size_t i = negative_.counts.size(); i-- > 0;) {
    seen += negative_.counts[i];
    if (seen > rank) return std::clamp(-Magnitude(negative_.first + static_cast<std::int32_t>(i)), min_, max_);
  }
  seen += zeros_;
  if (seen > rank) return std::clamp(0.0, min_, max_);
  // Over the buckets before the one in eights: their sum takes as long as a look at one.
  const std::vector<std::uint64_t>& counts = positive_.counts;
  constexpr std::size_t kAtOnce = 8;
  std::size_t i = 0;
  for (; i + kAtOnce <= counts.size(); i += kAtOnce) {
    std::uint64_t more = 0;
    for (std::size_t k = 0; k < kAtOnce; ++k) more += counts[i + k];
    if (seen + more > rank) break;
    seen += more;
  }
  for (; i < counts.size(); ++i) {
    seen += counts[i];
    if (seen > rank) return std::clamp(Magnitude(positive_.first + static_cast<std::int32_t>(i)), min_, max_);
  }
  return max_;
}

double DDSketch::QuantileOf(const Part& part, double q) const {
  if (part.count == 0) return std::numeric_limits<double>::quiet_NaN();
  // From the top, as what is in no bucket lies below. In sixteens up to the one: their sum takes as long as a look at
  // it, and none is more than the count, which fits.
  std::uint64_t left = part.count - RankOf(q, part.count);  // values from that one on
  constexpr std::size_t kAtOnce = 16;
  std::size_t i = part.counts.size();
  if (part.count <= std::numeric_limits<std::uint32_t>::max()) {
    for (; i >= kAtOnce; i -= kAtOnce) {
      const std::uint32_t* const counts = part.counts.data() + (i - kAtOnce);
      std::uint32_t more = 0;
      for (std::size_t k = 0; k < kAtOnce; ++k) more += counts[k];
      if (more >= left) break;
      left -= more;
    }
  }
  for (; i > 0; --i) {
    const std::uint64_t count = part.counts[i - 1];
    if (count < left) {
      left -= count;
      continue;
    }
    const auto index = static_cast<std::int32_t>(part.first + static_cast<std::int64_t>(i) - 1);
    return std::clamp(Magnitude(index), part.min, part.max);
  }
  return std::clamp(0.0, part.min, part.max);
}

std::vector<DDSketch::Bin> DDSketch::Bins(std::size_t most) const {
  assert(most >= 4);
  struct Used {  // the buckets from the first to the last that is not empty
    std::size_t begin = 0, end = 0;
  };
  const auto used = [](const Counts& buckets) {
    const auto filled = [](std::uint64_t count) { return count != 0; };
    const auto& counts = buckets.counts;
    const auto begin = std::find_if(counts.begin(), counts.end(), filled);
    if (begin == counts.end()) return Used{};
    const auto end = std::find_if(counts.rbegin(), counts.rend(), filled).base();
    return Used{static_cast<std::size_t>(begin - counts.begin()), static_cast<std::size_t>(end - counts.begin())};
  };
  const Used low = used(negative_), high = used(positive_);
  // A bin each for zero and for what does not come out even on either side.
  const std::size_t room = most - 3;
  const std::size_t width = std::max<std::size_t>(1, (low.end - low.begin + high.end - high.begin + room - 1) / room);
  const auto edge = [this](const Counts& buckets, std::size_t place) {
    return InverseInterpolatedLog((buckets.first + static_cast<double>(place)) / multiplier_);
  };
  const auto bins_of = [&](const Counts& buckets, Used part) {  // of magnitudes
    std::vector<Bin> bins;
    for (std::size_t begin = part.begin; begin < part.end; begin += width) {
      const std::size_t end = std::min(begin + width, part.end);
      Bin& bin = bins.emplace_back(Bin{edge(buckets, begin), edge(buckets, end), 0});
      for (std::size_t i = begin; i < end; ++i) bin.count += buckets.counts[i];
    }
    return bins;
  };
  std::vector<Bin> bins = bins_of(negative_, low);
  std::ranges::reverse(bins);
  for (Bin& bin : bins) bin = {-bin.high, -bin.low, bin.count};
  if (zeros_ > 0) bins.push_back({0, 0, zeros_});
  const std::vector<Bin> positive = bins_of(positive_, high);
  bins.insert(bins.end(), positive.begin(), positive.end());
  if (!bins.empty()) {  // the outermost edges are values that occurred
    bins.front().low = min_;
    bins.back().high = max_;
  }
  return bins;
}

// version:u8 relative_error:f64 count:u64 zeros:u64 sum:f64 min:f64 max:f64 buckets buckets
// buckets: first:i32 size:u32 count:u64*, without empty buckets at either end; first is 0 when there are none.
std::string DDSketch::Serialize() const {
  ByteBuffer out;
  out.Put(kVersion);
  out.Put(relative_error_);
  out.Put(count_);
  out.Put(zeros_);
  out.Put(sum_);
  out.Put(min_);
  out.Put(max_);
  for (const Counts* buckets : {&positive_, &negative_}) {
    const auto& counts = buckets->counts;
    const auto used = [](std::uint64_t count) { return count != 0; };
    const auto begin = std::find_if(counts.begin(), counts.end(), used);
    const auto end = std::find_if(counts.rbegin(), counts.rend(), used).base();
    const bool empty = begin == counts.end();
    out.Put(empty ? 0 : static_cast<std::int32_t>(buckets->first + (begin - counts.begin())));
    out.Put(empty ? 0u : static_cast<std::uint32_t>(end - begin));
    if (!empty) out.PutBytes(&*begin, static_cast<std::size_t>(end - begin) * sizeof(std::uint64_t));
  }
  return std::string(out.text());
}

Result<DDSketch> DDSketch::Deserialize(std::span<const std::byte> bytes) {
  ByteReader in(bytes);
  if (in.Get<std::uint8_t>() != kVersion) return DataLoss(At("unknown version", 0));
  const auto relative_error = in.Get<double>();
  if (!in.ok() || !(relative_error >= kMinRelativeError && relative_error < 1))
    return DataLoss(At("no relative error", 1));
  DDSketch sketch(relative_error);
  sketch.count_ = in.Get<std::uint64_t>();
  sketch.zeros_ = in.Get<std::uint64_t>();
  sketch.sum_ = in.Get<double>();
  sketch.min_ = in.Get<double>();
  sketch.max_ = in.Get<double>();
  std::uint64_t total = sketch.zeros_;
  const std::int32_t lowest = sketch.Index(kMinMagnitude), highest = sketch.Index(kMaxMagnitude);
  for (Counts* buckets : {&sketch.positive_, &sketch.negative_}) {
    const std::size_t offset = in.offset();
    buckets->first = in.Get<std::int32_t>();
    const auto size = in.Get<std::uint32_t>();
    const auto last = static_cast<std::int64_t>(buckets->first) + size - 1;
    if (!in.ok() || size > kMaxBuckets || (size > 0 && (buckets->first < lowest || last > highest))) {
      return DataLoss(At("impossible buckets", offset));
    }
    const auto data = in.GetBytes(size * sizeof(std::uint64_t));
    if (!in.ok()) return DataLoss(At("truncated", offset));
    buckets->counts.resize(size);
    if (size > 0) std::memcpy(buckets->counts.data(), data.data(), data.size());
    for (const std::uint64_t count : buckets->counts) {
      if (__builtin_add_overflow(total, count, &total)) return DataLoss(At("counts overflow", offset));
    }
  }
  const bool empty = sketch.count_ == 0;
  const bool range_ok = empty ? std::isnan(sketch.min_) && std::isnan(sketch.max_) && sketch.sum_ == 0
                              : sketch.min_ <= sketch.max_ && std::isfinite(sketch.sum_) &&
                                    sketch.min_ >= -kMaxMagnitude && sketch.max_ <= kMaxMagnitude;
  if (total != sketch.count_ || !range_ok) return DataLoss(At("count, sum, min or max disagree", 9));
  // Whatever else was changed, e.g. empty buckets at the ends or bytes that follow, does not come out the same.
  const std::string again = sketch.Serialize();
  if (again.size() != bytes.size() || std::memcmp(again.data(), bytes.data(), again.size()) != 0) {
    return DataLoss(At("not written by spanbox", in.offset()));
  }
  return sketch;
}

}  // namespace spanbox
