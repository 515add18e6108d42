#include "probe.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <tuple>
#include <utility>

#include "codes.hpp"
#include "list_order.hpp"
#include "rerank.hpp"

namespace whimbrel {
namespace {

constexpr std::size_t kSelectMin = 64;
constexpr std::size_t kBatch = 4;  // lists whose terms are summed at once
constexpr std::size_t kCacheLine = 64;
constexpr std::size_t kPrefetchBytes = 24576;  // of a posting list, at most

template <typename T>
T value_at(const unsigned char* values, std::size_t index) {
  T value;
  std::memcpy(&value, values + index * sizeof(T), sizeof value);
  return value;
}

void prefetch(const unsigned char* bytes, std::size_t size) {
  for (std::size_t i = 0; i < size; i += kCacheLine) __builtin_prefetch(bytes + i, 0, 2);
}

// Counts the bits of rows start to limit - 1.
std::int64_t count_kept(const ProbeSource& source, std::int64_t start, std::int64_t limit) {
  if (source.keep == nullptr) return limit - start;
  std::int64_t count = 0;
  const auto last = static_cast<std::size_t>(limit);
  auto at = static_cast<std::size_t>(start);
  const auto byte = [&](std::size_t index) -> unsigned {
    return index < source.keep_bytes ? source.keep[index] : 0U;
  };
  while (at < last && at % 8 != 0) {
    count += byte(at / 8) >> (at % 8) & 1U;
    ++at;
  }
  for (; at + 64 <= last && at / 8 + 8 <= source.keep_bytes; at += 64) {
    std::uint64_t word;
    std::memcpy(&word, source.keep + at / 8, sizeof word);
    count += std::popcount(word);
  }
  for (; at + 8 <= last; at += 8) count += std::popcount(byte(at / 8));
  for (; at < last; ++at) count += byte(at / 8) >> (at % 8) & 1U;
  return count;
}

// The query as coded rows with one seed and origin see it.
struct SeenQuery {
  std::uint64_t seed;
  const unsigned char* origin;
  std::vector<float> rotated;
  std::vector<double> wide;
  double square;
  std::vector<std::uint8_t> entries;
  TableNumbers numbers;
};

// One query under way. The lists of all sources are numbered through.
class Run {
 public:
  Run(const Kernels& kernels, std::span<const ProbeSource> sources,
      std::span<const StoredRows* const> stored, const unsigned char* query,
      const ProbeOptions& options)
      : kernels_(kernels),
        sources_(sources),
        stored_(stored),
        query_(query),
        options_(options),
        pool_(kernels.scan, options.k, options.rows_max,
              cosine() ? static_cast<float>(options.rounding) : 0.0F) {}

  Probed run() {
    Probed found{};
    found.in_range = see();
    if (!found.in_range) return found;
    for (std::size_t i = 0; i < sources_.size(); ++i) collect(i);
    scan_in_order(singles_);
    scan_lists();
    found.is_absent = is_absent_;
    if (!is_absent_) rank(found);
    found.row_count = row_count_;
    found.list_count = list_count_;
    return found;
  }

 private:
  bool cosine() const { return options_.metric == Metric::kCosine; }

  // Rotates the query as the sources need it; returns false when it is out of range for one.
  bool see() {
    for (const ProbeSource& source : sources_) {
      const CodedRows& coded = source.coded;
      std::size_t number = 0;
      while (number < seen_.size() &&
             (seen_[number].seed != coded.seed || seen_[number].origin != coded.origin)) {
        ++number;
      }
      if (number == seen_.size() && !see_as(coded)) return false;
      seen_of_.push_back(number);
    }
    return true;
  }

  bool see_as(const CodedRows& coded) {
    const Rows row{query_, coded.dimension};
    double norm = 0.0;
    row_norms(kernels_.distance, row, {&norm, 1});
    if (cosine() && norm == 0.0) return false;
    SeenQuery seen{coded.seed, coded.origin, {}, {}, 0.0, {}, {}};
    const std::size_t padded = coded.centres.dimension;
    seen.rotated.resize(padded);
    rotate_rows(kernels_, row, 1, coded.seed, coded.origin, cosine() ? &norm : nullptr, padded,
                seen.rotated.data());
    const auto* const bytes = reinterpret_cast<const unsigned char*>(seen.rotated.data());
    kernels_.distance.norm_f64({bytes, padded}, 0, 1, &seen.square);
    const double length = std::sqrt(seen.square);
    if (!(options_.norm_min <= length && length <= options_.norm_max)) return false;
    seen.wide.assign(seen.rotated.begin(), seen.rotated.end());
    seen.entries.resize(4 * padded);
    seen.numbers = build_table(kernels_.scan, seen.rotated, static_cast<float>(options_.norm_max),
                               seen.entries.data());
    seen_.push_back(std::move(seen));
    return true;
  }

  // Notes the lists of a source that may be scanned, with the squared distances of their centroids.
  void collect(std::size_t index) {
    const ProbeSource& source = sources_[index];
    const std::size_t count = source.coded.list_count();
    const std::size_t first = order_.size();
    first_list_.push_back(static_cast<std::uint32_t>(first));
    if (count == 1) {
      order_.add_unwanted(1);
      const auto list = static_cast<std::uint32_t>(first);
      if (rows_of(list) > 0) singles_.push_back({0.0F, list});
      return;
    }
    const std::span<float> squares = order_.add(count);
    if (source.coded.codes.blocks == nullptr) {
      measure_squares(index, squares);
    } else {
      estimate_squares(index, squares);
    }
    if (source.keep == nullptr && !source.coded.has_empty_lists) {
      rows_left_ += source.coded.starts[count];
      return;
    }
    for (std::size_t i = 0; i < count; ++i) {
      const auto list = static_cast<std::uint32_t>(first + i);
      const std::int64_t rows = rows_of(list);
      rows_left_ += rows;
      if (rows == 0) order_.remove(list);
    }
  }

  std::size_t source_of(std::uint32_t list) const {
    const auto behind = std::upper_bound(first_list_.begin(), first_list_.end(), list);
    return static_cast<std::size_t>(behind - first_list_.begin()) - 1;
  }

  // Returns how many rows of a list may be found.
  std::int64_t rows_of(std::uint32_t list) const {
    const std::size_t index = source_of(list);
    const ProbeSource& source = sources_[index];
    const std::size_t number = list - first_list_[index];
    return count_kept(source, source.coded.starts[number], source.coded.starts[number + 1]);
  }

  void measure_squares(std::size_t index, std::span<float> squares) {
    const CodedRows& coded = sources_[index].coded;
    coded.centre_guard.ensure(0, squares.size() * coded.centres.dimension * sizeof(float));
    std::vector<std::int64_t> chosen(squares.size());
    std::iota(chosen.begin(), chosen.end(), std::int64_t{0});
    std::vector<double> exact(squares.size());
    kernels_.distance.l2_f64(seen_[seen_of_[index]].wide.data(), coded.centres, chosen.data(),
                             chosen.size(), exact.data());
    std::transform(exact.begin(), exact.end(), squares.begin(),
                   [](double square) { return static_cast<float>(square); });
  }

  void estimate_squares(std::size_t index, std::span<float> squares) {
    const CodedRows& coded = sources_[index].coded;
    const SeenQuery& seen = seen_[seen_of_[index]];
    ScanInput input = scan_input(index);
    input.blocks = coded.codes.blocks;
    input.add = coded.codes.add;
    input.scale = coded.codes.scale;
    input.keep = nullptr;
    input.keep_bytes = 0;
    const std::int64_t only = 0;
    double square;
    kernels_.distance.l2_f64(seen.wide.data(), {coded.codes.mean, coded.centres.dimension}, &only,
                             1, &square);
    input.term = static_cast<float>(square);
    input.last = (squares.size() - 1) / kBlockRows;
    input.last_mask = 0xFFFFFFFFU >> (kBlockRows - 1 - (squares.size() - 1) % kBlockRows);
    ScanState state{};
    state.mask = 0xFFFFFFFFU;
    state.limit = std::numeric_limits<float>::infinity();
    while (kernels_.scan.scan(input, state)) {
      const std::size_t first = (state.block - 1) * kBlockRows;
      const std::size_t limit = std::min(kBlockRows, squares.size() - first);
      for (std::size_t i = 0; i < limit; ++i) {
        squares[first + i] = std::max(state.estimate[i], 0.0F);
      }
    }
  }

  ScanInput scan_input(std::size_t index) const {
    const ProbeSource& source = sources_[index];
    const CodedRows& coded = source.coded;
    const SeenQuery& seen = seen_[seen_of_[index]];
    return {coded.blocks,
            coded.add,
            coded.scale,
            source.keep,
            source.keep_bytes,
            seen.entries.data(),
            coded.centres.dimension / 8,
            seen.numbers.step,
            seen.numbers.bias,
            0.0F,
            0.0F,
            0,
            0};
  }

  void scan_lists() {
    budget_ = options_.row_budget;
    const auto share =
        static_cast<std::size_t>(static_cast<double>(order_.left()) * options_.first_share);
    scan_best(std::max(options_.first_list_count, share));
    if (budget_ >= rows_left_) return scan_all();
    // While codes are absent, nobody knows which of the other lists are the best.
    if (is_absent_) budget_ += options_.row_budget;
    const float limit = pool_.limit();
    if (std::isfinite(limit)) rank_lists((cosine() ? 2.0F : 1.0F) * std::max(limit, 0.0F));
    scan_best(order_.left());
  }

  // Scans what is left in the order of memory.
  void scan_all() {
    order_.find_all(best_);
    scan_in_order(best_);
  }

  void scan_in_order(std::span<const RankedList> lists) {
    while (!lists.empty()) {
      const std::size_t count = std::min(kBatch, lists.size());
      for (const RankedList& list : lists.first(count)) {
        row_count_ += static_cast<std::uint64_t>(rows_of(list.list));
      }
      scan(lists.first(count), {});
      lists = lists.subspan(count);
    }
  }

  // Puts z in the place of ranks, for neighbours at the squared distance `near`.
  void rank_lists(float near) {
    for (std::size_t i = 0; i < sources_.size(); ++i) {
      const CodedRows& coded = sources_[i].coded;
      if (coded.list_count() == 1) continue;
      rank_by_nearness(order_.ranks_of(first_list_[i], coded.list_count()), coded.spreads, near);
    }
  }

  // Scans the best lists in order until `count` were scanned or the budget is used up, and takes
  // them away.
  void scan_best(std::size_t count) {
    std::size_t wanted = std::min(count, lists_for_budget());
    while (count > 0 && budget_ > 0 && order_.left() > 0) {
      order_.find_best(wanted, best_);
      count -= scan_sorted(std::min(count, best_.size()));
      wanted *= 2;
    }
  }

  // Returns about how many lists the budget is enough for.
  std::size_t lists_for_budget() const {
    const double share = static_cast<double>(budget_) / static_cast<double>(rows_left_ + 1);
    return 1 + static_cast<std::size_t>(static_cast<double>(order_.left()) * std::min(share, 1.0));
  }

  // Does so with those that were found; returns how many were scanned.
  std::size_t scan_sorted(std::size_t count) {
    std::size_t sorted = 0;
    std::size_t done = 0;
    std::size_t step = kSelectMin;
    while (done < count && budget_ > 0) {
      if (done == sorted) {
        const std::size_t limit = std::min(sorted + step, best_.size());
        const auto at = [&](std::size_t index) {
          return best_.begin() + static_cast<std::ptrdiff_t>(index);
        };
        if (limit < best_.size()) std::nth_element(at(sorted), at(limit), best_.end(), before);
        std::sort(at(sorted), at(limit), before);
        sorted = limit;
        step *= 2;
      }
      const std::size_t first = done;
      while (done < std::min({sorted, count, first + kBatch}) && budget_ > 0) {
        const std::uint32_t list = best_[done++].list;
        const std::int64_t rows = rows_of(list);
        row_count_ += static_cast<std::uint64_t>(rows);
        budget_ -= rows;
        rows_left_ -= rows;
        order_.remove(list);
      }
      scan({best_.data() + first, done - first}, {best_.data() + done, sorted - done});
    }
    return done;
  }

  // Scans a batch of lists, and asks for the codes of those that follow.
  void scan(std::span<const RankedList> batch, std::span<const RankedList> following) {
    std::array<Posting, kBatch> postings;
    std::array<std::size_t, kBatch> owners;
    bool is_here = true;
    for (std::size_t i = 0; i < batch.size(); ++i) {
      owners[i] = source_of(batch[i].list);
      is_here = ensure(owners[i], batch[i].list) && is_here;
    }
    is_absent_ = is_absent_ || !is_here;
    for (std::size_t i = 0, count; is_here && i < batch.size(); i += count) {
      count = 1;
      while (i + count < batch.size() && owners[i + count] == owners[i]) ++count;
      describe(owners[i], batch.subspan(i, count), {postings.data() + i, count});
    }
    for (const RankedList& list : following.first(std::min(following.size(), kBatch)))
      ask_for(list);
    for (std::size_t i = 0; is_here && i < batch.size(); ++i) {
      pool_.scan(scan_input(owners[i]), postings[i], static_cast<std::uint32_t>(owners[i]));
    }
    list_count_ += batch.size();
  }

  // Computes where lists of one source lie, and their terms.
  void describe(std::size_t index, std::span<const RankedList> lists,
                std::span<Posting> postings) const {
    const CodedRows& coded = sources_[index].coded;
    const SeenQuery& seen = seen_[seen_of_[index]];
    std::array<std::int64_t, kBatch> numbers;
    std::array<double, kBatch> sums;
    for (std::size_t i = 0; i < lists.size(); ++i) {
      const std::size_t number = lists[i].list - first_list_[index];
      numbers[i] = static_cast<std::int64_t>(number);
    }
    const auto sum = cosine() ? kernels_.distance.dot_f64 : kernels_.distance.l2_f64;
    sum(seen.wide.data(), coded.centres, numbers.data(), lists.size(), sums.data());
    const float factor = options_.epsilon * coded.spread;
    for (std::size_t i = 0; i < lists.size(); ++i) {
      double square = sums[i];
      if (cosine()) {
        const double own = coded.centre_squares.of(kernels_.distance, numbers[i]);
        square = std::max((seen.square + own) - (sums[i] + sums[i]), 0.0);
      }
      const auto term = static_cast<float>(cosine() ? -sums[i] : square);
      const auto distance = static_cast<float>(std::sqrt(square));
      const auto number = static_cast<std::size_t>(numbers[i]);
      postings[i] = {coded.starts[number], coded.starts[number + 1], term,
                     factor * distance + static_cast<float>(seen.numbers.error)};
    }
  }

  // Asks for what a scan of the list reads first.
  void ask_for(const RankedList& list) const {
    const std::size_t index = source_of(list.list);
    const CodedRows& coded = sources_[index].coded;
    const std::size_t number = list.list - first_list_[index];
    prefetch(coded.centres.row(static_cast<std::int64_t>(number)),
             coded.centres.dimension * sizeof(float));
    const auto first = static_cast<std::size_t>(coded.starts[number]) / kBlockRows;
    const auto rows = static_cast<std::size_t>(coded.starts[number + 1]) - first * kBlockRows;
    const std::size_t block_bytes = kBlockRows * (coded.centres.dimension / 8);
    const std::size_t blocks = (rows + kBlockRows - 1) / kBlockRows;
    prefetch(coded.blocks + first * block_bytes, std::min(blocks * block_bytes, kPrefetchBytes));
    const std::size_t factor_bytes = std::min(rows * sizeof(float), kPrefetchBytes);
    prefetch(coded.add + first * kBlockRows * sizeof(float), factor_bytes);
    prefetch(coded.scale + first * kBlockRows * sizeof(float), factor_bytes);
  }

  // Verifies what a scan of a list reads; returns false when not all of it is here yet.
  bool ensure(std::size_t index, std::uint32_t number) const {
    const CodedRows& coded = sources_[index].coded;
    const std::size_t list = number - first_list_[index];
    const std::size_t centre_bytes = coded.centres.dimension * sizeof(float);
    bool is_here = coded.centre_guard.ensure(list * centre_bytes, (list + 1) * centre_bytes);
    const std::size_t first = static_cast<std::size_t>(coded.starts[list]) / kBlockRows;
    const std::size_t last =
        (static_cast<std::size_t>(coded.starts[list + 1]) + kBlockRows - 1) / kBlockRows;
    const std::size_t block_bytes = kBlockRows * (coded.centres.dimension / 8);
    is_here = coded.block_guard.ensure(first * block_bytes, last * block_bytes) && is_here;
    const std::size_t factor_bytes = kBlockRows * sizeof(float);
    is_here = coded.add_guard.ensure(first * factor_bytes, last * factor_bytes) && is_here;
    return coded.scale_guard.ensure(first * factor_bytes, last * factor_bytes) && is_here;
  }

  // Compares candidates exactly, as few as their bounds allow.
  void rank(Probed& found) {
    const std::vector<Candidate> candidates = pool_.take();
    const std::size_t first =
        std::min(candidates.size(),
                 std::max(options_.first_ratio * options_.k, options_.k + options_.first_rows));
    for (std::size_t i = 0; i < first; ++i) add(found, candidates[i].source, candidates[i].row);
    add_outside(found);
    found.is_absent = !measure(found, 0);
    // While rows are absent the limit is about what it will be, so that all rows are asked for at
    // once.
    const float limit = found.is_absent ? estimated_limit(candidates) : exact_limit(found.distance);
    const std::size_t measured = found.row.size();
    for (std::size_t i = first; i < candidates.size(); ++i) {
      // The limit is exact now, so a row may be off by what two of them together were allowed
      // before.
      const float lowest = 2.0F * candidates[i].lower - candidates[i].estimate;
      if (lowest <= limit) add(found, candidates[i].source, candidates[i].row);
    }
    found.is_absent = !measure(found, measured) || found.is_absent;
    if (found.is_absent) return;
    found.exact_count = found.row.size();
    keep_nearest(found);
  }

  void add(Probed& found, std::uint32_t source, std::uint32_t row) const {
    found.stored.push_back(sources_[source].stored);
    found.row.push_back(sources_[source].first_row + static_cast<std::int64_t>(row));
  }

  void add_outside(Probed& found) const {
    for (std::size_t i = 0; i < sources_.size(); ++i) {
      const ProbeSource& source = sources_[i];
      for (const std::uint32_t row : source.coded.outside) {
        if (count_kept(source, row, std::int64_t{row} + 1) != 0) {
          add(found, static_cast<std::uint32_t>(i), row);
        }
      }
    }
  }

  // Computes exact distances; returns false when not all rows are here yet.
  bool measure(Probed& found, std::size_t start) const {
    found.distance.resize(found.row.size());
    if (start == found.row.size()) return true;
    const RerankQuery query{query_, sources_[0].coded.dimension, options_.metric};
    return rerank(kernels_.distance, query, stored_, std::span(found.stored).subspan(start),
                  std::span(found.row).subspan(start), found.distance.data() + start);
  }

  // Returns about the k-th smallest distance, rather too much, infinite when there are fewer.
  float estimated_limit(std::span<const Candidate> candidates) const {
    if (candidates.size() < options_.k) return std::numeric_limits<float>::infinity();
    const Candidate& last = candidates[options_.k - 1];
    return last.estimate + 0.5F * (last.estimate - last.lower);
  }

  // Returns the k-th smallest distance in the unit of estimates, infinite when there are fewer.
  float exact_limit(std::vector<double> distances) const {
    if (distances.size() < options_.k) return std::numeric_limits<float>::infinity();
    const auto kth = distances.begin() + static_cast<std::ptrdiff_t>(options_.k - 1);
    std::nth_element(distances.begin(), kth, distances.end());
    // Estimates are float32, so rows that tie may have one a little larger.
    if (cosine()) return static_cast<float>(*kth + options_.rounding);
    return static_cast<float>((*kth * *kth) * (1.0 + options_.rounding));
  }

  // Keeps the k nearest and all that round to the same float32 as the last of them, in order of
  // that, then of array and row.
  void keep_nearest(Probed& found) const {
    std::vector<std::pair<float, std::size_t>> ranked;
    ranked.reserve(found.row.size());
    for (std::size_t i = 0; i < found.row.size(); ++i) {
      ranked.emplace_back(round_distance(found.distance[i]), i);
    }
    if (ranked.size() > options_.k) {
      const auto kth = ranked.begin() + static_cast<std::ptrdiff_t>(options_.k - 1);
      std::nth_element(ranked.begin(), kth, ranked.end());
      const float limit = kth->first;
      std::erase_if(ranked, [limit](const auto& place) { return !(place.first <= limit); });
    }
    std::sort(ranked.begin(), ranked.end(), [&found](const auto& a, const auto& b) {
      return std::tie(a.first, found.stored[a.second], found.row[a.second]) <
             std::tie(b.first, found.stored[b.second], found.row[b.second]);
    });
    Probed kept{};
    for (const auto& [distance, i] : ranked) {
      kept.stored.push_back(found.stored[i]);
      kept.row.push_back(found.row[i]);
      kept.distance.push_back(found.distance[i]);
    }
    found.stored = std::move(kept.stored);
    found.row = std::move(kept.row);
    found.distance = std::move(kept.distance);
  }

  const Kernels& kernels_;
  std::span<const ProbeSource> sources_;
  std::span<const StoredRows* const> stored_;
  const unsigned char* query_;
  const ProbeOptions& options_;
  Candidates pool_;
  std::vector<SeenQuery> seen_;
  std::vector<std::size_t> seen_of_;
  std::vector<std::uint32_t> first_list_;  // of each source
  ListOrder order_;                        // of those of sources with several
  std::vector<RankedList> singles_;        // the only list of its source
  std::vector<RankedList> best_;           // lists found last
  std::int64_t rows_left_ = 0;             // in lists that are not scanned yet
  std::int64_t budget_ = 0;
  std::uint64_t row_count_ = 0;
  std::uint64_t list_count_ = 0;
  bool is_absent_ = false;  // codes that were asked for
};

}  // namespace

Probed probe(const Kernels& kernels, std::span<const ProbeSource> sources,
             std::span<const StoredRows* const> stored, const unsigned char* query,
             const ProbeOptions& options) {
  return Run(kernels, sources, stored, query, options).run();
}

}  // namespace whimbrel
