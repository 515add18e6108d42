#include "nearest.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>

namespace whimbrel {
namespace {

// Where float32 arithmetic is trusted, and how far; docs/concepts/kernels.md derives the numbers.
constexpr double kNormMax = 0x1p60;
constexpr double kCosineNormMin = 0x1p-60;
constexpr double kEuclideanNormMin = 0x1p-40;
constexpr double kUnderflow = 0x1p-110;
constexpr double kUnit = 0x1p-24;
// Distances from here on may round to infinity in float32, where all of them tie.
constexpr double kSquareOverflow = 0x1p254;

constexpr std::size_t kBlockRows = 64;
void exact_distances(const Search& search, const WideQuery& query,
                     std::span<const std::int64_t> chosen, double* out) {
  if (search.metric == Metric::kCosine) {
    search.kernels.dot_f64(query.wide.data(), search.rows, chosen.data(), chosen.size(), out);
    for (std::size_t i = 0; i < chosen.size(); ++i) {
      const double norm = search.norms[static_cast<std::size_t>(chosen[i])];
      out[i] = cosine_distance(out[i], query.norm, norm, search.rows.dimension);
    }
  } else {
    search.kernels.l2_f64(query.wide.data(), search.rows, chosen.data(), chosen.size(), out);
    for (std::size_t i = 0; i < chosen.size(); ++i) out[i] = std::sqrt(out[i]);
  }
}

struct Candidate {
  double score;  // cosine distance, or squared euclidean distance; an estimate for most rows
  std::int64_t row;
};

// The rows that may still be among the k nearest. Sifted whenever it fills up, so that most rows
// cost one comparison; grows only when more rows than fit lie within the margin of the k-th.
class Candidates {
 public:
  Candidates(std::size_t k, Metric metric, std::size_t dimension) : k_(k), metric_(metric) {
    // A term of an estimate meets at most d / 8 + 16 roundings, two of them in squaring a
    // difference. Both the k-th estimate and the row's own may be off by that; four units more
    // cover rounding distances to float32.
    const double roundings = static_cast<double>((dimension + kLanes - 1) / kLanes + 16);
    error_ = 1.01 * (2.0 * roundings + 4.0) * kUnit;
    capacity_ = std::max<std::size_t>(2 * k, 128);
    kept_.reserve(capacity_ + kBlockRows);
  }

  double limit() const { return limit_; }

  // Room for kBlockRows more is always there after this.
  void sift_when_full() {
    if (kept_.size() < capacity_) return;
    sift();
    if (kept_.size() > capacity_ / 2) {
      capacity_ = 2 * kept_.size();
      kept_.reserve(capacity_ + kBlockRows);
    }
  }

  // A comparison that fails for NaN, which no order can place.
  void add(double score, std::int64_t row) {
    if (score <= limit_) kept_.push_back({score, row});
  }

  // Returns the rows left, ascending.
  std::vector<std::int64_t> take_rows() {
    sift();
    std::vector<std::int64_t> rows;
    rows.reserve(kept_.size());
    for (const Candidate& candidate : kept_) rows.push_back(candidate.row);
    std::sort(rows.begin(), rows.end());
    return rows;
  }

 private:
  void sift() {
    if (kept_.size() <= k_) return;
    const auto kth = kept_.begin() + static_cast<std::ptrdiff_t>(k_ - 1);
    const auto nearer = [](const Candidate& a, const Candidate& b) { return a.score < b.score; };
    std::nth_element(kept_.begin(), kth, kept_.end(), nearer);
    limit_ = limit_for(kth->score);
    std::erase_if(kept_, [this](const Candidate& candidate) { return candidate.score > limit_; });
  }

  // The largest estimate a row may have that belongs to the result, given the k-th smallest.
  double limit_for(double kth_score) const {
    if (metric_ == Metric::kCosine) return kth_score + error_;
    const double limit = kth_score * (1.0 + error_) + 4 * kUnderflow;
    return limit < kSquareOverflow ? limit : std::numeric_limits<double>::infinity();
  }

  std::size_t k_;
  Metric metric_;
  double error_;
  double limit_ = std::numeric_limits<double>::infinity();
  std::size_t capacity_;
  std::vector<Candidate> kept_;
};

// One pass over all rows, a block at a time: estimates where float32 is safe, exact scores
// elsewhere.
class Scan {
 public:
  Scan(const Search& search, const WideQuery& query, std::size_t k)
      : search_(search),
        query_(query),
        scaled_(query.narrow),
        candidates_(k, search.metric, search.rows.dimension) {
    if (cosine() && query_.norm > 0.0) {
      // A power of two scales exactly: it moves the query's norm into [1, 2).
      const int exponent = std::ilogb(query_.norm);
      for (std::size_t i = 0; i < scaled_.size(); ++i) {
        scaled_[i] = static_cast<float>(std::ldexp(query_.wide[i], -exponent));
      }
      scaled_norm_ = std::ldexp(query_.norm, -exponent);
    }
  }

  std::vector<std::int64_t> run(const std::uint8_t* keep) {
    const auto row_count = static_cast<std::int64_t>(search_.norms.size());
    for (std::int64_t row = 0; row < row_count; ++row) {
      if (keep != nullptr && keep[row] == 0) continue;
      Block& block = safe(search_.norms[static_cast<std::size_t>(row)]) ? safe_ : unsafe_;
      block.rows[block.count++] = row;
      if (block.count == kBlockRows) flush(block);
    }
    flush(safe_);
    flush(unsafe_);
    return candidates_.take_rows();
  }

 private:
  struct Block {
    std::array<std::int64_t, kBlockRows> rows;
    std::size_t count = 0;
  };

  bool cosine() const { return search_.metric == Metric::kCosine; }

  bool safe(double norm) const {
    if (cosine()) return norm >= kCosineNormMin && norm <= kNormMax && query_.norm > 0.0;
    const double largest = std::max(norm, query_.norm);
    return largest >= kEuclideanNormMin && largest <= kNormMax;
  }

  void flush(Block& block) {
    candidates_.sift_when_full();
    if (&block == &safe_) {
      add_estimates(block);
    } else {
      add_exact(block);
    }
    block.count = 0;
  }

  void add_estimates(const Block& block) {
    std::array<float, kBlockRows> sums;
    const auto estimate = cosine() ? search_.kernels.dot_f32 : search_.kernels.l2_f32;
    estimate(scaled_.data(), search_.rows, block.rows.data(), block.count, sums.data());
    for (std::size_t i = 0; i < block.count; ++i) {
      const std::int64_t row = block.rows[i];
      double score = sums[i];
      if (cosine()) {
        score = 1.0 - score / (scaled_norm_ * search_.norms[static_cast<std::size_t>(row)]);
      }
      candidates_.add(score, row);
    }
  }

  void add_exact(const Block& block) {
    std::array<double, kBlockRows> scores;
    exact_distances(search_, query_, {block.rows.data(), block.count}, scores.data());
    for (std::size_t i = 0; i < block.count; ++i) {
      candidates_.add(cosine() ? scores[i] : scores[i] * scores[i], block.rows[i]);
    }
  }

  const Search& search_;
  const WideQuery& query_;
  std::vector<float> scaled_;
  double scaled_norm_ = 1.0;
  Candidates candidates_;
  Block safe_;
  Block unsafe_;
};

// Removes the neighbours farther than the k-th in float32.
void keep_nearest(Neighbours& found, std::size_t k) {
  std::vector<float> sorted;
  sorted.reserve(found.distances.size());
  for (const double distance : found.distances) sorted.push_back(round_distance(distance));
  const auto kth = sorted.begin() + static_cast<std::ptrdiff_t>(k - 1);
  std::nth_element(sorted.begin(), kth, sorted.end());
  std::size_t kept = 0;
  for (std::size_t i = 0; i < found.rows.size(); ++i) {
    if (!(round_distance(found.distances[i]) <= *kth)) continue;
    found.rows[kept] = found.rows[i];
    found.distances[kept] = found.distances[i];
    ++kept;
  }
  found.rows.resize(kept);
  found.distances.resize(kept);
}

}  // namespace

WideQuery::WideQuery(const DistanceKernels& kernels, const unsigned char* values,
                     std::size_t dimension) {
  const std::size_t padded = (dimension + kLanes - 1) / kLanes * kLanes;
  narrow.resize(padded);
  std::memcpy(narrow.data(), values, dimension * sizeof(float));
  wide.assign(narrow.begin(), narrow.end());
  kernels.norm_f64({values, dimension}, 0, 1, &norm);
  norm = std::sqrt(norm);
}

double cosine_distance(double dot, double query_norm, double norm, std::size_t dimension) {
  const double scale = query_norm * norm;
  if (scale == 0.0) return 1.0;
  const double distance = std::clamp(1.0 - dot / scale, 0.0, 2.0);
  // The sums are off by at most this much, so less than this is no distance at all.
  const double noise = static_cast<double>(dimension + 64) * 0x1p-55;
  return distance < noise ? 0.0 : distance;
}

float round_distance(double distance) {
  constexpr double kTooLarge = 0x1.ffffffp127;
  return !(distance < kTooLarge) ? std::numeric_limits<float>::infinity()
                                 : static_cast<float>(distance);
}

void row_norms(const DistanceKernels& kernels, Rows rows, std::span<double> norms) {
  kernels.norm_f64(rows, 0, norms.size(), norms.data());
  for (double& norm : norms) norm = std::sqrt(norm);
}

void distances(const Search& search, std::span<const std::int64_t> chosen, double* out) {
  const WideQuery query(search.kernels, search.query, search.rows.dimension);
  exact_distances(search, query, chosen, out);
}

Neighbours nearest(const Search& search, std::size_t k, const std::uint8_t* keep) {
  const WideQuery query(search.kernels, search.query, search.rows.dimension);
  Neighbours found;
  found.rows = Scan(search, query, k).run(keep);
  found.distances.resize(found.rows.size());
  exact_distances(search, query, found.rows, found.distances.data());
  if (found.rows.size() > k) keep_nearest(found, k);
  return found;
}

}  // namespace whimbrel
