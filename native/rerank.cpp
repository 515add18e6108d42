#include "rerank.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <numeric>
#include <vector>

namespace whimbrel {
namespace {

// Candidates lie anywhere in memory: as many rows as this are summed at once, while the next ones
// are asked for. From so many candidates on, it pays to read them in the order of memory.
constexpr std::size_t kBatch = 4;
constexpr std::size_t kSortMin = 512;
constexpr std::size_t kCacheLine = 64;

void prefetch(const StoredRows& stored, std::int64_t index) {
  const unsigned char* const row = stored.rows.row(index);
  for (std::size_t i = 0; i < stored.rows.dimension * sizeof(float); i += kCacheLine) {
    __builtin_prefetch(row + i);
  }
  __builtin_prefetch(stored.norms + static_cast<std::size_t>(index) * sizeof(double));
}

// Returns the numbers of all candidates, in the order in which to read their rows.
std::vector<std::uint32_t> reading_order(std::span<const std::uint32_t> number,
                                         std::span<const std::int64_t> row) {
  std::vector<std::uint32_t> order(row.size());
  std::iota(order.begin(), order.end(), 0U);
  if (order.size() < kSortMin) return order;
  std::sort(order.begin(), order.end(), [&](std::uint32_t a, std::uint32_t b) {
    return number[a] != number[b] ? number[a] < number[b] : row[a] < row[b];
  });
  return order;
}

}  // namespace

bool rerank(const DistanceKernels& kernels, const RerankQuery& query,
            std::span<const StoredRows* const> stored, std::span<const std::uint32_t> number,
            std::span<const std::int64_t> row, double* out) {
  const WideQuery held(kernels, query.values, query.dimension);
  const auto sum = query.metric == Metric::kCosine ? kernels.dot_f64 : kernels.l2_f64;
  const std::vector<std::uint32_t> order = reading_order(number, row);
  bool is_here = true;
  const auto ask_for = [&](std::size_t start) {
    for (std::size_t i = start; i < std::min(start + kBatch, order.size()); ++i) {
      const StoredRows& part = *stored[number[order[i]]];
      is_here = part.ensure(static_cast<std::size_t>(row[order[i]])) && is_here;
      prefetch(part, row[order[i]]);
    }
  };
  ask_for(0);
  std::size_t asked = kBatch;
  for (std::size_t start = 0, count; is_here && start < order.size(); start += count) {
    if (asked < start + 2 * kBatch) {
      ask_for(asked);
      asked += kBatch;
      if (!is_here) break;
    }
    const std::uint32_t from = number[order[start]];
    const StoredRows& part = *stored[from];
    std::array<std::int64_t, kBatch> chosen;
    std::array<double, kBatch> sums;
    for (count = 0; count < kBatch && start + count < order.size(); ++count) {
      if (number[order[start + count]] != from) break;
      chosen[count] = row[order[start + count]];
    }
    sum(held.wide.data(), part.rows, chosen.data(), count, sums.data());
    for (std::size_t i = 0; i < count; ++i) {
      double& distance = out[order[start + i]];
      if (query.metric == Metric::kCosine) {
        double norm;
        std::memcpy(&norm, part.norms + static_cast<std::size_t>(chosen[i]) * sizeof(norm),
                    sizeof(norm));
        distance = cosine_distance(sums[i], held.norm, norm, query.dimension);
      } else {
        distance = std::sqrt(sums[i]);
      }
    }
  }
  // Where one is not here, all the others are asked for as well.
  for (; !is_here && asked < order.size(); asked += kBatch) ask_for(asked);
  return is_here;
}

}  // namespace whimbrel
