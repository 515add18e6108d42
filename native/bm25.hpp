// The best rows of a text query by BM25, over the postings of its terms.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "postings.hpp"

namespace whimbrel {

// One term of a query. A row's score is the sum over terms, in their order, of
// weight * f / (f + base + slope * length), f being how often the term is in the row.
struct QueryTerm {
  const PostingList* list;
  // Of each row, how many terms there are in the text that this one is looked for in.
  std::span<const std::uint16_t> lengths;
  double weight;
  double base;
  double slope;

  double part(double frequency, double length) const {
    return weight * (frequency / (frequency + (base + slope * length)));
  }
};

struct ScoredRows {
  std::vector<std::int64_t> rows;
  std::vector<double> scores;
};

// Finds the best `k` rows and all whose scores are as good as the last of them up to single
// precision; none with a score below `floor`. In order of rows; some more rows may be among them.
//
// The terms are of one segment, with positive weights and a length for each row; `keep` is a bitmap
// of rows that may be found, empty when all may.
ScoredRows find_best(std::span<const QueryTerm> terms, std::span<const std::uint64_t> keep,
                     std::size_t k, double floor);

// Returns how many rows of a list are set in a bitmap.
std::size_t count_kept(const PostingList& list, std::span<const std::uint64_t> keep);

}  // namespace whimbrel
