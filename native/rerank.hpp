// Exact distances of candidates that lie scattered over several arrays.
#pragma once

#include <cstdint>
#include <span>

#include "probe.hpp"

namespace whimbrel {

// A query of `dimension` values at any address.
struct RerankQuery {
  const unsigned char* values;
  std::size_t dimension;
  Metric metric;
};

// Writes the exact distance of row row[i] of stored[number[i]] to out[i]. Both must exist. Returns
// false when rows are not here yet, all of which were asked for; `out` then holds anything.
bool rerank(const DistanceKernels& kernels, const RerankQuery& query,
            std::span<const StoredRows* const> stored, std::span<const std::uint32_t> number,
            std::span<const std::int64_t> row, double* out);

}  // namespace whimbrel
