#include "probe.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <tuple>

namespace whimbrel {
namespace {

constexpr std::size_t kBlockRows = 32;
constexpr double kSpreadMin = 1e-6;
constexpr std::size_t kSelectMin = 64;

// A list that may be scanned. `rank` is what lists are put in order by.
struct List {
  double rank;
  double square;  // estimated squared distance of its centroid from the query
  std::uint32_t source;
  std::uint32_t number;
  std::int64_t rows;  // that may be found
};

bool before(const List& a, const List& b) {
  return std::tie(a.rank, a.source, a.number) < std::tie(b.rank, b.source, b.number);
}

float float_at(const unsigned char* floats, std::size_t index) {
  float value;
  std::memcpy(&value, floats + index * sizeof(float), sizeof value);
  return value;
}

// Counts the bits of rows start to limit - 1.
std::int64_t count_kept(const ScanInput& input, std::int64_t start, std::int64_t limit) {
  if (input.keep == nullptr) return limit - start;
  std::int64_t count = 0;
  const auto last = static_cast<std::size_t>(limit);
  auto at = static_cast<std::size_t>(start);
  const auto byte = [&](std::size_t index) -> unsigned {
    return index < input.keep_bytes ? input.keep[index] : 0U;
  };
  while (at < last && at % 8 != 0) {
    count += byte(at / 8) >> (at % 8) & 1U;
    ++at;
  }
  for (; at + 64 <= last && at / 8 + 8 <= input.keep_bytes; at += 64) {
    std::uint64_t word;
    std::memcpy(&word, input.keep + at / 8, sizeof word);
    count += std::popcount(word);
  }
  for (; at + 8 <= last; at += 8) count += std::popcount(byte(at / 8));
  for (; at < last; ++at) count += byte(at / 8) >> (at % 8) & 1U;
  return count;
}

// One query under way.
class Run {
 public:
  Run(const Kernels& kernels, std::span<const ProbeSource> sources, Metric metric, Candidates& pool)
      : kernels_(kernels), sources_(sources), metric_(metric), pool_(pool) {
    for (const ProbeSource& source : sources_) {
      std::vector<float> narrow(source.centres.dimension);
      std::memcpy(narrow.data(), source.query, narrow.size() * sizeof(float));
      queries_.emplace_back(narrow.begin(), narrow.end());
    }
  }

  Probed run(const ProbeLimits& limits) {
    for (std::size_t i = 0; i < sources_.size(); ++i) collect(i);
    std::vector<List> singles;
    std::vector<List> lists;
    for (const List& list : lists_) {
      (sources_[list.source].starts.size() == 2 ? singles : lists).push_back(list);
    }
    scan(singles);
    budget_ = limits.row_budget;
    const auto share =
        static_cast<std::size_t>(static_cast<double>(lists.size()) * limits.first_share);
    scan_best(lists, std::max(limits.first_list_count, share));
    const double unit = metric_ == Metric::kCosine ? 2.0 : 1.0;
    const float limit = pool_.limit();
    const double near = unit * std::max(static_cast<double>(limit), 0.0);
    if (std::isfinite(limit)) {
      for (List& list : lists) list.rank = rank_of(list, near);
    }
    scan_best(lists, lists.size());
    return {pool_.take(), row_count_, list_count_};
  }

 private:
  // Puts the lists of a source that may be scanned into lists_, by the distance of their centroids.
  void collect(std::size_t index) {
    const ProbeSource& source = sources_[index];
    const std::size_t count = source.starts.size() - 1;
    squares_.resize(count);
    if (source.codes.blocks == nullptr) {
      chosen_.resize(count);
      std::iota(chosen_.begin(), chosen_.end(), std::int64_t{0});
      kernels_.distance.l2_f64(queries_[index].data(), source.centres, chosen_.data(), count,
                               squares_.data());
    } else {
      estimate_squares(source, count);
    }
    for (std::size_t i = 0; i < count; ++i) {
      const std::int64_t rows = count_kept(source.input, source.starts[i], source.starts[i + 1]);
      if (rows == 0) continue;
      lists_.push_back({squares_[i], squares_[i], static_cast<std::uint32_t>(index),
                        static_cast<std::uint32_t>(i), rows});
    }
  }

  void estimate_squares(const ProbeSource& source, std::size_t count) {
    ScanInput input = source.input;
    input.blocks = source.codes.blocks;
    input.add = source.codes.add;
    input.scale = source.codes.scale;
    input.keep = nullptr;
    input.keep_bytes = 0;
    input.term = source.codes.term;
    input.error = 0.0F;
    input.last = (count - 1) / kBlockRows;
    input.last_mask = 0xFFFFFFFFU >> (kBlockRows - 1 - (count - 1) % kBlockRows);
    ScanState state;
    state.block = 0;
    state.mask = 0xFFFFFFFFU;
    state.limit = std::numeric_limits<float>::infinity();
    state.rows_scanned = state.blocks_scanned = 0;
    while (kernels_.scan.scan(input, state)) {
      const std::size_t first = (state.block - 1) * kBlockRows;
      for (std::size_t i = 0; i < kBlockRows && first + i < count; ++i) {
        squares_[first + i] = std::max(static_cast<double>(state.estimate[i]), 0.0);
      }
    }
  }

  double rank_of(const List& list, double near) const {
    if (list.square <= 0.0) return -std::numeric_limits<double>::infinity();
    const double distance = std::sqrt(list.square);
    const double spread =
        std::max(static_cast<double>(float_at(sources_[list.source].spreads, list.number)),
                 kSpreadMin * distance);
    return (list.square + spread * spread - near) / (2.0 * distance * spread);
  }

  // Scans the best lists in order until `count` were scanned or the budget is used up, and takes
  // them away.
  void scan_best(std::vector<List>& lists, std::size_t count) {
    count = std::min(count, lists.size());
    std::size_t sorted = 0;
    std::size_t done = 0;
    std::size_t step = kSelectMin;
    while (done < count && budget_ > 0) {
      if (done == sorted) {
        const std::size_t limit = std::min(sorted + step, lists.size());
        const auto at = [&](std::size_t index) {
          return lists.begin() + static_cast<std::ptrdiff_t>(index);
        };
        if (limit < lists.size()) std::nth_element(at(sorted), at(limit), lists.end(), before);
        std::sort(at(sorted), at(limit), before);
        sorted = limit;
        step *= 2;
      }
      batch_.clear();
      while (done < sorted && done < count && budget_ > 0) {
        budget_ -= lists[done].rows;
        batch_.push_back(lists[done++]);
      }
      scan(batch_);
    }
    lists.erase(lists.begin(), lists.begin() + static_cast<std::ptrdiff_t>(done));
  }

  void scan(std::span<const List> lists) {
    for (const List& list : lists) {
      const ProbeSource& source = sources_[list.source];
      const auto chosen = static_cast<std::int64_t>(list.number);
      const double* const query = queries_[list.source].data();
      double square, dot;
      kernels_.distance.l2_f64(query, source.centres, &chosen, 1, &square);
      float term = static_cast<float>(square);
      if (metric_ == Metric::kCosine) {
        kernels_.distance.dot_f64(query, source.centres, &chosen, 1, &dot);
        term = static_cast<float>(-dot);
      }
      const auto distance = static_cast<float>(std::sqrt(square));
      const Posting posting = {source.starts[list.number], source.starts[list.number + 1], term,
                               source.error_factor * distance + source.error_offset};
      pool_.scan(source.input, posting, list.source);
      row_count_ += static_cast<std::uint64_t>(list.rows);
      ++list_count_;
    }
  }

  const Kernels& kernels_;
  std::span<const ProbeSource> sources_;
  Metric metric_;
  Candidates& pool_;
  std::vector<std::vector<double>> queries_;
  std::vector<double> squares_;
  std::vector<std::int64_t> chosen_;
  std::vector<List> lists_;
  std::vector<List> batch_;
  std::int64_t budget_ = 0;
  std::uint64_t row_count_ = 0;
  std::uint64_t list_count_ = 0;
};

}  // namespace

Probed probe(const Kernels& kernels, std::span<const ProbeSource> sources, Metric metric,
             Candidates& pool, const ProbeLimits& limits) {
  return Run(kernels, sources, metric, pool).run(limits);
}

}  // namespace whimbrel
