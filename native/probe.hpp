// Probes of posting lists; src/whimbrel/kernel/numpy_probe.py is the specification.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "candidates.hpp"
#include "dispatch.hpp"
#include "nearest.hpp"

namespace whimbrel {

// Codes of centroids, all with one centre; only for sources of many lists.
struct CentreCodes {
  const std::uint8_t* blocks;  // null where there are none
  const unsigned char* add;
  const unsigned char* scale;
  float term;  // squared distance of the query from that centre
};

// One source of candidates, m lists. Arrays may lie at any address except `starts`.
struct ProbeSource {
  ScanInput input;  // of the rows; the parts about one posting are filled in here
  std::span<const std::int64_t> starts;  // m + 1
  Rows centres;
  const unsigned char* spreads;  // float32
  float error_factor;            // of |q - c|, in the error bound
  float error_offset;
  const unsigned char* query;  // float32, rotated
  CentreCodes codes;
};

struct ProbeLimits {
  std::int64_t row_budget;
  std::size_t first_list_count;
  double first_share;
};

struct Probed {
  std::vector<Candidate> candidates;
  std::uint64_t row_count;
  std::uint64_t list_count;
};

Probed probe(const Kernels& kernels, std::span<const ProbeSource> sources, Metric metric,
             Candidates& pool, const ProbeLimits& limits);

}  // namespace whimbrel
