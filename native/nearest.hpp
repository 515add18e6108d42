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

// A query as the kernels want it: widened, and padded with zeros to a multiple of eight.
struct WideQuery {
  std::vector<float> narrow;
  std::vector<double> wide;
  double norm;

  // `values` has `dimension` floats at any address.
  WideQuery(const DistanceKernels& kernels, const unsigned char* values, std::size_t dimension);
};

double cosine_distance(double dot, double query_norm, double norm, std::size_t dimension);

// Rounds to float32; what is nearer to 2^128 than to FLT_MAX becomes infinity, as everywhere in
// IEEE 754, and so does NaN, which no order can place.
float round_distance(double distance);

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

}  // namespace whimbrel
