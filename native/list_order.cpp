#include "list_order.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

namespace whimbrel {
namespace {

constexpr float kNone = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kSpreadMin = 1e-6F;
constexpr std::size_t kSampleCount = 1024;
constexpr std::size_t kSampleSlack = 12;  // samples more than the share asked for
constexpr std::size_t kGroup = 32;        // ranks compared at once

thread_local std::vector<float> spare_ranks;  // four bytes for each list of the largest index

}  // namespace

void rank_by_nearness(std::span<float> squares, const unsigned char* spreads, float near) {
  for (std::size_t i = 0; i < squares.size(); ++i) {
    float spread;
    std::memcpy(&spread, spreads + i * sizeof(float), sizeof spread);
    const float square = squares[i];
    const float distance = std::sqrt(square);
    const float least = kSpreadMin * distance;
    spread = spread < least ? least : spread;
    const float z = ((square + spread * spread) - near) / ((2.0F * distance) * spread);
    const float rank = square > 0.0F ? (z == z ? z : kInfinity) : -kInfinity;
    squares[i] = square == square ? rank : square;
  }
}

ListOrder::ListOrder() : ranks_(std::move(spare_ranks)) { ranks_.clear(); }

ListOrder::~ListOrder() { spare_ranks = std::move(ranks_); }

void ListOrder::add_unwanted(std::size_t count) { ranks_.resize(ranks_.size() + count, kNone); }

std::span<float> ListOrder::add(std::size_t count) {
  const std::size_t first = ranks_.size();
  ranks_.resize(first + count);
  left_ += count;
  return ranks_of(first, count);
}

std::span<float> ListOrder::ranks_of(std::size_t first, std::size_t count) {
  return std::span(ranks_).subspan(first, count);
}

void ListOrder::remove(std::uint32_t list) {
  if (std::isnan(ranks_[list])) return;
  ranks_[list] = kNone;
  --left_;
}

void ListOrder::find_best(std::size_t count, std::vector<RankedList>& found) const {
  while (count < left_ / 2) {
    found.clear();
    find_within(limit_for(count), found);
    if (found.size() >= count) return;
    count *= 2;  // the sample was off
  }
  find_all(found);
}

void ListOrder::find_all(std::vector<RankedList>& found) const {
  found.clear();
  find_within(kInfinity, found);
}

// Returns a rank that about `count` lists are within, rather more than fewer, from a sample.
float ListOrder::limit_for(std::size_t count) const {
  const std::size_t step = std::max<std::size_t>(ranks_.size() / kSampleCount, 1);
  std::vector<float> sample;
  sample.reserve(ranks_.size() / step + 1);
  for (std::size_t i = step / 2; i < ranks_.size(); i += step) {
    if (!std::isnan(ranks_[i])) sample.push_back(ranks_[i]);
  }
  const std::size_t place =
      (count + count / 4) * sample.size() / left_ + (step > 1 ? kSampleSlack : 1);
  if (place >= sample.size()) return kInfinity;
  const auto at = sample.begin() + static_cast<std::ptrdiff_t>(place);
  std::nth_element(sample.begin(), at, sample.end());
  return *at;
}

void ListOrder::find_within(float limit, std::vector<RankedList>& found) const {
  const auto keep = [&](std::size_t i) {
    if (ranks_[i] <= limit) found.push_back({ranks_[i], static_cast<std::uint32_t>(i)});
  };
  std::size_t i = 0;
  for (; i + kGroup <= ranks_.size(); i += kGroup) {
    int count = 0;
    for (std::size_t j = 0; j < kGroup; ++j) count += ranks_[i + j] <= limit ? 1 : 0;
    if (count == 0) continue;
    for (std::size_t j = 0; j < kGroup; ++j) keep(i + j);
  }
  for (; i < ranks_.size(); ++i) keep(i);
}

}  // namespace whimbrel
