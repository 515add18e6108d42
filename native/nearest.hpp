// Exact distances, and exact nearest rows by way of float32 estimates. Instruction sets do not
// matter here: the sums come from a DistanceKernels table.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "distance.hpp"

namespace whimbrel {

enum class Metric { kCosine, kEuclidean };

// A query over rows. `norms` has one euclidean norm to a row, as row_norms gives them; `query` has
// rows.dimension values at any address.
struct Search {
  const DistanceKernels& kernels;
  const unsigned char* query;
  Rows rows;
  std::span<const double> norms;
  Metric metric;
};

struct Neighbours {
  std::vector<std::int64_t> rows;  // ascending
  std::vector<double> distances;
};

void row_norms(const DistanceKernels& kernels, Rows rows, std::span<double> norms);

// Writes the exact distance of row chosen[i] to out[i]. Indexes must be valid.
void distances(const Search& search, std::span<const std::int64_t> chosen, double* out);

// Returns the kept rows whose distance, rounded to float32, is at most the k-th smallest. `keep` is
// one byte to a row, or null to keep all; 1 <= k <= number of rows.
Neighbours nearest(const Search& search, std::size_t k, const std::uint8_t* keep);

// The rows of one segment, and their norms, float64 at any address.
struct Source {
  Rows rows;
  const unsigned char* norms;
  std::size_t count;
};

// A query of `dimension` values at any address.
struct RerankQuery {
  const unsigned char* values;
  std::size_t dimension;
  Metric metric;
};

// Writes the exact distance of row row[i] of sources[source[i]] to out[i]. Returns false, having
// written nothing, when a source or a row does not exist.
bool rerank(const DistanceKernels& kernels, const RerankQuery& query,
            std::span<const Source> sources, std::span<const std::uint32_t> source,
            std::span<const std::uint32_t> row, double* out);

}  // namespace whimbrel
