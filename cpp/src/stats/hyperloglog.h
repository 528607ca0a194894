// HyperLogLog: how many different values a stream has, in bounded memory, mergeable.
//
// Philippe Flajolet, Éric Fusy, Olivier Gandouet, Frédéric Meunier: "HyperLogLog: the analysis of a near-optimal
// cardinality estimation algorithm", AofA 2007; the estimator is Otmar Ertl's: "New cardinality estimation algorithms
// for HyperLogLog sketches", arXiv:1702.01284, algorithm 6, which needs no tables and has no range where it is biased.
//
// Guarantee: exact up to kMaxExact different hashes; past that the standard error is kStandardError, so that two
// answers of three are off by less than it, and 99.7 % by less than three times it.
// When not to use it: where the number must be right (distinct), or to tell sets apart that differ by a percent.
//
// Thread rule: not synchronised. Ownership: a value; copy and move freely.
// Invariants: 1. Estimate and Serialize depend on the set of hashes only, not on their order or on how it was merged.
//   2. What is counted are hashes: equal values must be given equal ones, with 64 good bits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "spanbox/status.h"

namespace spanbox {

class HyperLogLog {
 public:
  static constexpr unsigned kPrecision = 14;
  static constexpr std::size_t kRegisters = std::size_t{1} << kPrecision;  // 16 KiB
  static constexpr double kStandardError = 0.0081;                         // 1.04 / sqrt(kRegisters)
  static constexpr std::size_t kMaxExact = 1024;

  void Add(std::uint64_t hash);
  void Merge(const HyperLogLog& other);

  double Estimate() const;

  // Little-endian, versioned; Deserialize refuses anything Serialize did not write with DataLoss and the offset.
  std::string Serialize() const;
  static Result<HyperLogLog> Deserialize(std::span<const std::byte> bytes);

 private:
  void AddDense(std::uint64_t hash);
  void Compact();  // hashes_ holds each once, or becomes registers

  std::vector<std::uint64_t> hashes_;    // while there are few; may hold one twice
  std::vector<std::uint8_t> registers_;  // empty until then
};

}  // namespace spanbox
