// The constants of the columns value. docs/segment_format.md is the description; both change together.
#pragma once

#include <cstddef>
#include <cstdint>

namespace spanbox {

inline constexpr std::uint32_t kSegmentMagic = 0x47535053;  // "SPSG"
inline constexpr std::uint16_t kSegmentVersion = 2;         // 1 had no codec 2
inline constexpr std::size_t kSegmentHeaderBytes = 40;      // magic, version, 0:u16, checksum, then what it covers:
                                                            // rows, directory bytes, min start, max start
inline constexpr std::size_t kChecksumFrom = 16;
inline constexpr std::size_t kChunkAlignment = 8;

inline constexpr std::size_t kMaxShortString = 1024;           // longer strings are text
inline constexpr std::size_t kMaxZoneText = 64;                // longer strings make no zone map
inline constexpr std::size_t kValuesPerBlock = 128;            // of Encoding::kBlocks
inline constexpr std::uint32_t kTraceIdsPerBlock = 256;        // trace ids that share a checksum
inline constexpr std::size_t kTextBlockBytes = 256 * 1024;     // before compression
inline constexpr std::size_t kSettledBlockBytes = 512 * 1024;  // the same, of a segment that has settled

// Persisted: never renumber.
enum class Encoding : std::uint8_t {
  kConstant = 0,        // every value is the one in the directory; the chunk has no bytes
  kPacked = 1,          // int, bool: packed from the zone's minimum; float: sequence of the bits; span id: plain u64
  kRuns = 2,            // int, bool: runs, then packed values of the runs
  kDelta = 3,           // int: first value, sequence of differences
  kDictionary = 4,      // string, float: dictionary, packed codes
  kDictionaryRuns = 5,  // string: dictionary, runs, packed codes of the runs
  kParents = 6,         // span id: sequence of distances in rows, then the ids that are not rows of the trace
  kTraces = 7,          // trace id
  kTextPlaces = 8,      // text: sequences is_json, block, offset, size
  kBlocks = 9,          // int: sequence of the smallest of every kValuesPerBlock, width:u8, packed value - that
};

enum class ValidityKind : std::uint8_t { kBitmap = 0, kRowList = 1 };
enum class TextCodec : std::uint8_t {
  kStored = 0,
  kZstd = 1,
  kZstdBase = 2,  // with the unpacked block 0 of the segment, which is not of this codec, as dictionary
};

}  // namespace spanbox
