#include "candidates.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <tuple>

namespace whimbrel {
namespace {

constexpr std::size_t kBlockRows = 32;
constexpr std::size_t kCapacityMin = 256;
// Rows without a code have an infinite lower bound, which never meets this.
constexpr float kNoLimit = std::numeric_limits<float>::max();
// Float32 sums of a few terms are off by less than this much of their largest term.
constexpr float kRounding = 0x1p-20F;
// Tables of smaller queries than this would need steps that float32 cannot divide by.
constexpr float kSumMin = 0x1p-100F;

bool nearer(const Candidate& a, const Candidate& b) { return a.estimate < b.estimate; }

float upper(const Candidate& candidate) {
  return candidate.estimate + (candidate.estimate - candidate.lower);
}

bool surer(const Candidate& a, const Candidate& b) { return upper(a) < upper(b); }

bool before(const Candidate& a, const Candidate& b) {
  return std::tie(a.estimate, a.source, a.row) < std::tie(b.estimate, b.source, b.row);
}

// The sum of sizes in the order that distance.hpp fixes.
double sum_of_sizes(std::span<const float> query) {
  std::array<double, 8> lanes{};
  for (std::size_t i = 0; i < query.size(); ++i) {
    lanes[i % 8] += std::fabs(static_cast<double>(query[i]));
  }
  const double t0 = lanes[0] + lanes[4], t1 = lanes[1] + lanes[5];
  const double t2 = lanes[2] + lanes[6], t3 = lanes[3] + lanes[7];
  return (t0 + t2) + (t1 + t3);
}

}  // namespace

TableNumbers build_table(const ScanKernels& kernels, std::span<const float> query, float value_max,
                         std::uint8_t* entries) {
  const std::size_t quads = query.size() / 4;
  std::vector<float> sums(quads);
  float most = 0.0F;
  bool in_range = true;
  for (std::size_t i = 0; i < quads; ++i) {
    const float* const q = query.data() + 4 * i;
    sums[i] = (std::fabs(q[0]) + std::fabs(q[1])) + (std::fabs(q[2]) + std::fabs(q[3]));
    most = std::max(most, sums[i]);
    for (std::size_t j = 0; j < 4; ++j) in_range = in_range && std::fabs(q[j]) <= value_max;
  }
  if (!in_range) return {false, 0.0F, 0.0F, 0.0};
  const double length = sum_of_sizes(query);
  if (most < kSumMin) {
    std::fill(entries, entries + 4 * query.size(), std::uint8_t{0});
    return {true, 0.0F, 0.0F, length};
  }
  kernels.table(query.data(), sums.data(), query.size(), 127.5F / most, entries);
  const float step = most / 127.5F;
  const double error =
      static_cast<double>(step) * std::sqrt(static_cast<double>(query.size())) + length * 0x1p-21;
  return {true, step, static_cast<float>(-length), error};
}

Candidates::Candidates(const ScanKernels& kernels, std::size_t depth, std::size_t rows_max,
                       float slack)
    : kernels_(kernels), depth_(depth), rows_max_(rows_max), slack_(slack) {
  clear();
}

void Candidates::clear() {
  capacity_ = std::max(2 * depth_, kCapacityMin);
  limit_ = kNoLimit;
  rows_scanned_ = 0;
  blocks_scanned_ = 0;
  kept_.clear();
}

void Candidates::scan(ScanInput input, const Posting& posting, std::uint32_t source) {
  if (posting.start >= posting.limit) return;
  const auto start = static_cast<std::size_t>(posting.start);
  const auto last = static_cast<std::size_t>(posting.limit) - 1;
  input.term = posting.term;
  input.error = posting.error;
  input.last = last / kBlockRows;
  input.last_mask = 0xFFFFFFFFU >> (kBlockRows - 1 - last % kBlockRows);
  ScanState state;
  state.block = start / kBlockRows;
  state.mask = 0xFFFFFFFFU << (start % kBlockRows);
  state.limit = widened_limit();
  state.rows_scanned = state.blocks_scanned = 0;
  while (kernels_.scan(input, state)) {
    add_found(state, source);
    state.limit = widened_limit();
  }
  rows_scanned_ += state.rows_scanned;
  blocks_scanned_ += state.blocks_scanned;
}

// The block that was found in is the one before state.block.
void Candidates::add_found(const ScanState& state, std::uint32_t source) {
  const std::size_t first = (state.block - 1) * kBlockRows;
  for (std::uint32_t found = state.found; found != 0; found &= found - 1) {
    const auto place = static_cast<std::size_t>(std::countr_zero(found));
    kept_.push_back({state.estimate[place], state.lower[place], source,
                     static_cast<std::uint32_t>(first + place)});
  }
  if (kept_.size() < capacity_) return;
  sift();
  if (kept_.size() > capacity_ / 2) capacity_ = 2 * kept_.size();
}

void Candidates::sift() {
  if (kept_.size() <= depth_) return;
  const auto at = [this](std::size_t index) {
    return kept_.begin() + static_cast<std::ptrdiff_t>(index);
  };
  std::nth_element(kept_.begin(), at(depth_ - 1), kept_.end(), surer);
  limit_ = upper(*at(depth_ - 1));
  std::erase_if(kept_, [limit = widened_limit()](const Candidate& candidate) {
    return candidate.lower > limit;
  });
  if (kept_.size() > rows_max_) {
    std::nth_element(kept_.begin(), at(rows_max_ - 1), kept_.end(), before);
    kept_.resize(rows_max_);
  }
}

float Candidates::widened_limit() const {
  if (limit_ == kNoLimit) return kNoLimit;
  return std::min(limit_ + (slack_ + std::fabs(limit_) * kRounding), kNoLimit);
}

float Candidates::limit() {
  if (kept_.size() < depth_) return std::numeric_limits<float>::infinity();
  const auto last = kept_.begin() + static_cast<std::ptrdiff_t>(depth_ - 1);
  std::nth_element(kept_.begin(), last, kept_.end(), nearer);
  return last->estimate;
}

std::vector<Candidate> Candidates::take() {
  sift();
  std::sort(kept_.begin(), kept_.end(), before);
  std::vector<Candidate> taken = std::move(kept_);
  clear();
  return taken;
}

}  // namespace whimbrel
