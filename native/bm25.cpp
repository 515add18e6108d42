// Term lists are walked together, row by row. Whoever cannot change what is found is not walked
// (MaxScore, Turtle and Flood 1995): with lists in order of the most they can add, those whose sum
// stays below the k-th best score so far are only looked into for rows that others brought up. And
// where the blocks at hand bound all scores below it, whole stretches are left out (Block-Max, Ding
// and Suel 2011).
#include "bm25.hpp"

#include <algorithm>
#include <bit>
#include <functional>
#include <limits>
#include <numeric>
#include <queue>

namespace whimbrel {
namespace {

constexpr std::uint32_t kEnd = std::numeric_limits<std::uint32_t>::max();
// Scores that round to the same single-precision number differ by less than this share.
constexpr double kSingleShare = 1.2e-7;
// A bound is computed in another order than a score; so much more is allowed for.
constexpr double kBoundShare = 1e-9;

double bound_of(const PostingBlock& block, const QueryTerm& term) {
  double most = 0;
  for (std::size_t kind = 0; kind < kLengthClasses; ++kind) {
    if (block.length_min[kind] == std::numeric_limits<std::uint16_t>::max() &&
        kind + 1 < kLengthClasses) {
      continue;
    }
    const double frequency = kind + 1 < kLengthClasses ? static_cast<double>(kind + 1)
                                                       : static_cast<double>(block.frequency_max);
    if (frequency > block.frequency_max) break;
    most = std::max(most, term.part(frequency, block.length_min[kind]));
  }
  return most * (1 + kBoundShare);
}

// A place in the postings of one term.
class Cursor {
 public:
  Cursor(const QueryTerm& term, std::size_t number)
      : list_(term.list), term_(&term), number_(number) {
    for (std::size_t block = 0; block < list_->block_count(); ++block) {
      bound_ = std::max(bound_, bound_of(list_->block(block), term));
    }
  }

  // Which of the query's terms this is.
  std::size_t number() const { return number_; }
  // The most that the term adds to any row.
  double bound() const { return bound_; }

  // Finds the block for rows from `row` on, without decoding it.
  void seek_block(std::uint32_t row) {
    while (near_ < list_->block_count() && list_->last_row(near_) < row) ++near_;
    if (near_ != bounded_ && near_ < list_->block_count()) {
      near_bound_ = bound_of(list_->block(near_), *term_);
      bounded_ = near_;
    }
  }
  bool is_block_over() const { return near_ >= list_->block_count(); }
  // The last row of the block found, and the most that the term adds to a row in it.
  std::uint32_t block_last() const { return is_block_over() ? kEnd : list_->last_row(near_); }
  double block_bound() const { return is_block_over() ? 0 : near_bound_; }

  // The row at hand; kEnd behind the last.
  std::uint32_t row() const { return row_; }

  // Moves to the first row from `row` on.
  void seek(std::uint32_t row) {
    if (row_ != kEnd && row_ >= row && is_started_) return;
    seek_block(row);
    is_started_ = true;
    if (is_block_over()) {
      row_ = kEnd;
      return;
    }
    if (decoded_ != near_) {
      block_ = list_->block(near_);
      size_ = list_->size_of(near_);
      list_->decode_rows(near_, rows_);
      decoded_ = near_;
      place_ = 0;
    }
    while (rows_[place_] < row) ++place_;
    row_ = rows_[place_];
  }

  // What the term adds to the row at hand.
  double part() const {
    return term_->part(list_->frequency(block_, size_, place_), term_->lengths[row_]);
  }

 private:
  static constexpr std::size_t kNone = std::numeric_limits<std::size_t>::max();

  const PostingList* list_;
  const QueryTerm* term_;
  std::size_t number_;
  double bound_ = 0;
  std::size_t near_ = 0;
  std::size_t bounded_ = kNone;
  double near_bound_ = 0;
  std::size_t decoded_ = kNone;
  PostingBlock block_{};
  std::size_t size_ = 0;
  std::size_t place_ = 0;
  std::uint32_t row_ = 0;
  bool is_started_ = false;
  std::uint32_t rows_[kBlockPostings];
};

// The best scores so far, and the score below which a row does not count.
class Best {
 public:
  Best(std::size_t k, double floor) : k_(k), cut_(floor) {}

  double cut() const { return cut_; }

  void add(std::uint32_t row, double score) {
    found.rows.push_back(row);
    found.scores.push_back(score);
    if (heap_.size() < k_) {
      heap_.push(score);
    } else if (score > heap_.top()) {
      heap_.pop();
      heap_.push(score);
    } else {
      return;
    }
    if (heap_.size() == k_) cut_ = std::max(cut_, heap_.top() * (1 - kSingleShare));
  }

  ScoredRows found;

 private:
  std::size_t k_;
  double cut_;
  std::priority_queue<double, std::vector<double>, std::greater<>> heap_;
};

// Returns the first row from `row` on that is set; kEnd when there is none.
std::uint32_t next_kept(std::span<const std::uint64_t> keep, std::uint32_t row) {
  std::size_t word = row / 64;
  if (word >= keep.size()) return kEnd;
  std::uint64_t bits = keep[word] & (~std::uint64_t{0} << (row % 64));
  while (bits == 0) {
    if (++word == keep.size()) return kEnd;
    bits = keep[word];
  }
  return static_cast<std::uint32_t>(word * 64 + static_cast<std::size_t>(std::countr_zero(bits)));
}

// One search under way.
class Search {
 public:
  Search(std::vector<Cursor>& cursors, std::span<const std::uint64_t> keep, Best& best)
      : cursors_(cursors), keep_(keep), best_(best) {
    // In order of what they can add; `below_[i]` is the most that the first i add together.
    std::sort(cursors_.begin(), cursors_.end(),
              [](const Cursor& one, const Cursor& other) { return one.bound() < other.bound(); });
    below_.push_back(0);
    for (const Cursor& cursor : cursors_) below_.push_back(below_.back() + cursor.bound());
    parts_.assign(cursors_.size(), 0);
  }

  void run() {
    move_essential();
    std::uint32_t row = 0;
    while (first_ < cursors_.size() && (row = next_candidate(row)) != kEnd) {
      score(row);
      ++row;
    }
  }

 private:
  // Leaves lists to be looked into only that cannot bring a row up by themselves.
  void move_essential() {
    while (first_ < cursors_.size() && below_[first_ + 1] < best_.cut()) ++first_;
  }

  // Returns the next row from `row` on that may count and that an essential list has.
  std::uint32_t next_candidate(std::uint32_t row) {
    while (true) {
      if (!keep_.empty()) row = next_kept(keep_, row);
      if (row == kEnd) return kEnd;
      if (row > window_last_ || window_cut_ != best_.cut()) {
        row = skip_stretches(row);
        if (row == kEnd) return kEnd;
      }
      std::uint32_t nearest = kEnd;
      for (std::size_t i = first_; i < cursors_.size(); ++i) {
        cursors_[i].seek(row);
        nearest = std::min(nearest, cursors_[i].row());
      }
      if (nearest == kEnd) return kEnd;
      const bool is_kept = keep_.empty() || ((keep_[nearest / 64] >> (nearest % 64)) & 1) != 0;
      if (is_kept && nearest <= window_last_) return nearest;
      row = nearest + (is_kept ? 0 : 1);
    }
  }

  // Returns the first row from `row` on that may lie in a stretch worth looking at.
  std::uint32_t skip_stretches(std::uint32_t row) {
    window_cut_ = best_.cut();
    while (true) {
      std::uint32_t last = kEnd;
      double bound = below_[first_];
      for (std::size_t i = first_; i < cursors_.size(); ++i) {
        cursors_[i].seek_block(row);
        last = std::min(last, cursors_[i].block_last());
        bound += cursors_[i].block_bound();
      }
      window_last_ = last;
      if (bound >= best_.cut()) return row;
      if (last == kEnd) return kEnd;
      row = last + 1;
    }
  }

  void score(std::uint32_t row) {
    double sum = 0;
    std::fill(parts_.begin(), parts_.end(), 0.0);
    for (std::size_t i = first_; i < cursors_.size(); ++i) {
      if (cursors_[i].row() == row) sum += take_part(cursors_[i]);
    }
    for (std::size_t i = first_; i-- > 0;) {
      if (sum + below_[i + 1] < best_.cut()) return;
      Cursor& cursor = cursors_[i];
      cursor.seek_block(row);
      if (sum + cursor.block_bound() + below_[i] < best_.cut()) return;
      cursor.seek(row);
      if (cursor.row() == row) sum += take_part(cursor);
    }
    // Added up in the order of the terms, whatever order they were found in.
    const double exact = std::accumulate(parts_.begin(), parts_.end(), 0.0);
    if (exact < best_.cut()) return;
    best_.add(row, exact);
    move_essential();
  }

  double take_part(const Cursor& cursor) {
    const double part = cursor.part();
    parts_[cursor.number()] = part;
    return part;
  }

  std::vector<Cursor>& cursors_;
  std::span<const std::uint64_t> keep_;
  Best& best_;
  std::vector<double> below_;
  std::vector<double> parts_;
  std::size_t first_ = 0;
  std::uint32_t window_last_ = 0;
  double window_cut_ = -1;
};

}  // namespace

ScoredRows find_best(std::span<const QueryTerm> terms, std::span<const std::uint64_t> keep,
                     std::size_t k, double floor) {
  std::vector<Cursor> cursors;
  cursors.reserve(terms.size());
  for (std::size_t number = 0; number < terms.size(); ++number) {
    cursors.emplace_back(terms[number], number);
  }
  Best best(k, floor);
  Search(cursors, keep, best).run();
  return std::move(best.found);
}

std::size_t count_kept(const PostingList& list, std::span<const std::uint64_t> keep) {
  std::uint32_t rows[kBlockPostings];
  std::size_t count = 0;
  for (std::size_t number = 0; number < list.block_count(); ++number) {
    list.decode_rows(number, rows);
    for (std::size_t i = 0; i < list.size_of(number); ++i) {
      count += (keep[rows[i] / 64] >> (rows[i] % 64)) & 1;
    }
  }
  return count;
}

}  // namespace whimbrel
