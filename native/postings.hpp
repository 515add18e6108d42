// Postings of a term: which rows hold it, and how often; in blocks, with what bounds their BM25
// scores. docs/format/text.md draws the bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace whimbrel {

constexpr std::size_t kBlockPostings = 128;
constexpr std::size_t kBlockBytes = 20;
// Lengths are kept for frequencies 1, 2, 3, and 4 and above.
constexpr std::size_t kLengthClasses = 4;
// Data ends with so many bytes of nothing, so that eight may be read from any place.
constexpr std::size_t kPaddingBytes = 8;

// One entry of the table of blocks.
struct PostingBlock {
  std::uint32_t last_row;
  std::uint32_t data_start;
  std::uint8_t row_bits;
  std::uint8_t frequency_bits;
  std::uint16_t frequency_max;
  // Of the shortest text in the block with that frequency; 65535 where there is none.
  std::uint16_t length_min[kLengthClasses];
};

PostingBlock read_block(const std::uint8_t* entry);

struct EncodedPostings {
  std::vector<std::uint32_t> block_starts;
  std::vector<std::uint8_t> blocks;
  std::vector<std::uint8_t> data;
};

// Encodes the postings of t terms. `starts` has t + 1 places in `rows` and `frequencies`; rows
// ascend within a term and are places in `lengths`; frequencies are at least 1. False when the data
// would pass 4 GiB.
bool encode_postings(std::span<const std::int64_t> starts, std::span<const std::uint32_t> rows,
                     std::span<const std::uint16_t> frequencies,
                     std::span<const std::uint16_t> lengths, EncodedPostings& out);

// The postings of one term, checked: reading them touches no byte beyond the spans. The spans stay
// the caller's.
class PostingList {
 public:
  // Throws std::invalid_argument when blocks and data do not fit each other.
  PostingList(std::span<const std::uint8_t> blocks, std::span<const std::uint8_t> data,
              std::uint32_t data_start, std::size_t count, std::size_t row_count);

  std::size_t count() const { return count_; }
  std::size_t block_count() const { return block_count_; }
  std::size_t row_count() const { return row_count_; }
  PostingBlock block(std::size_t number) const {
    return read_block(blocks_ + number * kBlockBytes);
  }
  std::uint32_t last_row(std::size_t number) const;
  std::size_t size_of(std::size_t number) const {
    return number + 1 < block_count_ ? kBlockPostings : count_ - number * kBlockPostings;
  }

  // Decodes the rows of a block, at most kBlockPostings. Throws std::invalid_argument where they do
  // not end with the block's last row.
  void decode_rows(std::size_t number, std::uint32_t* rows) const;

  // Returns how often the term is in one of a block's rows.
  std::uint32_t frequency(const PostingBlock& block, std::size_t size, std::size_t place) const;

 private:
  const std::uint8_t* blocks_;
  const std::uint8_t* data_;
  std::uint32_t data_start_;
  std::size_t count_;
  std::size_t block_count_;
  std::size_t row_count_;
};

// Decodes the postings of terms that lie one after the other, of so many each. The spans to fill
// have a place for each. Throws std::invalid_argument where blocks and data do not fit each other.
void decode_postings(std::span<const std::uint8_t> blocks, std::span<const std::uint8_t> data,
                     std::span<const std::int64_t> counts, std::size_t row_count,
                     std::span<std::uint32_t> rows, std::span<std::uint16_t> frequencies);

}  // namespace whimbrel
