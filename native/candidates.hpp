// The pool of candidates that scans fill, and the table of a query. Instruction sets do not matter
// here: the loops over codes come from a ScanKernels table.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "fastscan.hpp"

namespace whimbrel {

struct TableNumbers {
  bool in_range;  // otherwise there are no entries and no numbers
  float step;
  float bias;
  double error;
};

// Writes 4 padded entries for a rotated query whose values are numbers of at most `value_max`.
TableNumbers build_table(const ScanKernels& kernels, std::span<const float> query, float value_max,
                         std::uint8_t* entries);

struct Candidate {
  float estimate;
  float lower;
  std::uint32_t source;
  std::uint32_t row;
};

// The rows start to limit - 1 of one posting, and its terms.
struct Posting {
  std::int64_t start;
  std::int64_t limit;
  float term;
  float error;
};

// Keeps every row whose lower bound is not above the depth-th smallest upper bound so far, but not
// many more than rows_max of them. One thread at a time.
class Candidates {
 public:
  // `slack` is what rounding may do to an estimate, beside a millionth of the limit.
  Candidates(const ScanKernels& kernels, std::size_t depth, std::size_t rows_max, float slack);

  // Scans one posting. `input` describes its segment; the posting's part of it is filled in here.
  void scan(ScanInput input, const Posting& posting, std::uint32_t source);

  // Returns the candidates in order of estimate, source and row, and starts anew.
  std::vector<Candidate> take();

  // Returns the depth-th smallest estimate so far, infinite while there are fewer.
  float limit();

  std::uint64_t rows_scanned() const { return rows_scanned_; }
  std::uint64_t blocks_scanned() const { return blocks_scanned_; }

 private:
  void add_found(const ScanState& state, std::uint32_t source);
  void sift();
  void clear();
  float widened_limit() const;

  const ScanKernels& kernels_;
  std::size_t depth_;
  std::size_t rows_max_;
  float slack_;
  std::size_t capacity_;
  float limit_;
  std::uint64_t rows_scanned_;
  std::uint64_t blocks_scanned_;
  std::vector<Candidate> kept_;
};

}  // namespace whimbrel
