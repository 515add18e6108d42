#include "postings.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <stdexcept>

namespace whimbrel {
namespace {

constexpr unsigned kRowBitsMax = 32;
constexpr unsigned kFrequencyBitsMax = 16;

void require(bool condition, const char* message) {
  if (!condition) throw std::invalid_argument(message);
}

std::uint64_t load(const std::uint8_t* at) {
  std::uint64_t word;
  std::memcpy(&word, at, sizeof word);
  return word;
}

std::uint64_t mask_of(unsigned bits) { return (std::uint64_t{1} << bits) - 1; }

unsigned bits_of(std::uint32_t value) { return static_cast<unsigned>(std::bit_width(value)); }

std::size_t packed_bytes(std::size_t count, unsigned bits) { return (count * bits + 7) / 8; }

// Appends values of so many bits each, the lowest bit first.
class BitWriter {
 public:
  explicit BitWriter(std::vector<std::uint8_t>& out) : out_(out) {}

  void put(std::uint64_t value, unsigned bits) {
    held_ |= value << held_bits_;
    held_bits_ += bits;
    while (held_bits_ >= 8) {
      out_.push_back(static_cast<std::uint8_t>(held_));
      held_ >>= 8;
      held_bits_ -= 8;
    }
  }

  void flush() {
    if (held_bits_ > 0) out_.push_back(static_cast<std::uint8_t>(held_));
    held_ = 0;
    held_bits_ = 0;
  }

 private:
  std::vector<std::uint8_t>& out_;
  std::uint64_t held_ = 0;
  unsigned held_bits_ = 0;
};

void append_block(const PostingBlock& block, std::vector<std::uint8_t>& out) {
  const std::size_t start = out.size();
  out.resize(start + kBlockBytes);
  std::uint8_t* at = out.data() + start;
  std::memcpy(at, &block.last_row, 4);
  std::memcpy(at + 4, &block.data_start, 4);
  at[8] = block.row_bits;
  at[9] = block.frequency_bits;
  std::memcpy(at + 10, &block.frequency_max, 2);
  std::memcpy(at + 12, block.length_min, 2 * kLengthClasses);
}

// Encodes one block; `before` is the row before its first, -1 at the beginning of a term.
void encode_block(std::int64_t before, std::span<const std::uint32_t> rows,
                  std::span<const std::uint16_t> frequencies,
                  std::span<const std::uint16_t> lengths, EncodedPostings& out) {
  PostingBlock block{};
  std::fill(block.length_min, block.length_min + kLengthClasses,
            std::numeric_limits<std::uint16_t>::max());
  std::uint32_t gap_max = 0;
  std::int64_t last = before;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    gap_max = std::max(gap_max, static_cast<std::uint32_t>(rows[i] - last - 1));
    last = rows[i];
    block.frequency_max = std::max(block.frequency_max, frequencies[i]);
    const std::size_t kind = std::min<std::size_t>(frequencies[i], kLengthClasses) - 1;
    block.length_min[kind] = std::min(block.length_min[kind], lengths[rows[i]]);
  }
  block.last_row = rows.back();
  block.data_start = static_cast<std::uint32_t>(out.data.size());
  block.row_bits = static_cast<std::uint8_t>(bits_of(gap_max));
  block.frequency_bits = static_cast<std::uint8_t>(bits_of(block.frequency_max - 1u));
  append_block(block, out.blocks);
  BitWriter writer(out.data);
  last = before;
  for (const std::uint32_t row : rows) {
    writer.put(static_cast<std::uint64_t>(row - last - 1), block.row_bits);
    last = row;
  }
  writer.flush();
  for (const std::uint16_t frequency : frequencies) {
    writer.put(frequency - 1u, block.frequency_bits);
  }
  writer.flush();
}

}  // namespace

PostingBlock read_block(const std::uint8_t* entry) {
  PostingBlock block;
  std::memcpy(&block.last_row, entry, 4);
  std::memcpy(&block.data_start, entry + 4, 4);
  block.row_bits = entry[8];
  block.frequency_bits = entry[9];
  std::memcpy(&block.frequency_max, entry + 10, 2);
  std::memcpy(block.length_min, entry + 12, 2 * kLengthClasses);
  return block;
}

bool encode_postings(std::span<const std::int64_t> starts, std::span<const std::uint32_t> rows,
                     std::span<const std::uint16_t> frequencies,
                     std::span<const std::uint16_t> lengths, EncodedPostings& out) {
  for (std::size_t term = 0; term + 1 < starts.size(); ++term) {
    out.block_starts.push_back(static_cast<std::uint32_t>(out.blocks.size() / kBlockBytes));
    std::int64_t before = -1;
    std::size_t at = static_cast<std::size_t>(starts[term]);
    const std::size_t limit = static_cast<std::size_t>(starts[term + 1]);
    while (at < limit) {
      const std::size_t size = std::min(kBlockPostings, limit - at);
      if (out.data.size() > std::numeric_limits<std::uint32_t>::max()) return false;
      encode_block(before, rows.subspan(at, size), frequencies.subspan(at, size), lengths, out);
      before = rows[at + size - 1];
      at += size;
    }
  }
  out.block_starts.push_back(static_cast<std::uint32_t>(out.blocks.size() / kBlockBytes));
  out.data.insert(out.data.end(), kPaddingBytes, 0);
  return true;
}

PostingList::PostingList(std::span<const std::uint8_t> blocks, std::span<const std::uint8_t> data,
                         std::uint32_t data_start, std::size_t count, std::size_t row_count)
    : blocks_(blocks.data()),
      data_(data.data()),
      data_start_(data_start),
      count_(count),
      block_count_((count + kBlockPostings - 1) / kBlockPostings),
      row_count_(row_count) {
  require(count > 0, "a term has no postings");
  require(blocks.size() == block_count_ * kBlockBytes, "blocks do not fit the postings");
  std::int64_t before = -1;
  for (std::size_t number = 0; number < block_count_; ++number) {
    const PostingBlock found = block(number);
    const std::size_t size = size_of(number);
    require(found.row_bits <= kRowBitsMax && found.frequency_bits <= kFrequencyBitsMax,
            "a block has too many bits");
    require(found.data_start >= data_start, "a block lies outside the data");
    const std::size_t limit = found.data_start - data_start + packed_bytes(size, found.row_bits) +
                              packed_bytes(size, found.frequency_bits);
    require(limit + kPaddingBytes <= data.size(), "a block lies outside the data");
    require(found.last_row > before && found.last_row < row_count, "a row is out of range");
    before = found.last_row;
  }
}

std::uint32_t PostingList::last_row(std::size_t number) const {
  std::uint32_t row;
  std::memcpy(&row, blocks_ + number * kBlockBytes, 4);
  return row;
}

void PostingList::decode_rows(std::size_t number, std::uint32_t* rows) const {
  const PostingBlock found = block(number);
  const std::size_t size = size_of(number);
  const std::uint8_t* at = data_ + (found.data_start - data_start_);
  const std::uint64_t mask = mask_of(found.row_bits);
  const unsigned bits = found.row_bits;
  std::uint64_t row = number == 0 ? ~std::uint64_t{0} : last_row(number - 1);
  std::size_t bit = 0;
  for (std::size_t i = 0; i < size; ++i, bit += bits) {
    row += ((load(at + bit / 8) >> (bit % 8)) & mask) + 1;
    rows[i] = static_cast<std::uint32_t>(row);
  }
  // Rows ascend, so none is beyond the last, which is in range.
  require(row == found.last_row, "rows of a block do not end where they should");
}

std::uint32_t PostingList::frequency(const PostingBlock& block, std::size_t size,
                                     std::size_t place) const {
  const std::uint8_t* at =
      data_ + (block.data_start - data_start_) + packed_bytes(size, block.row_bits);
  const std::size_t bit = place * block.frequency_bits;
  return static_cast<std::uint32_t>((load(at + bit / 8) >> (bit % 8)) &
                                    mask_of(block.frequency_bits)) +
         1;
}

void decode_postings(std::span<const std::uint8_t> blocks, std::span<const std::uint8_t> data,
                     std::span<const std::int64_t> counts, std::size_t row_count,
                     std::span<std::uint32_t> rows, std::span<std::uint16_t> frequencies) {
  std::size_t first = 0;
  std::size_t at = 0;
  for (const std::int64_t count : counts) {
    const std::size_t size = static_cast<std::size_t>(count);
    const std::size_t limit = first + (size + kBlockPostings - 1) / kBlockPostings * kBlockBytes;
    const PostingList list(blocks.subspan(first, limit - first), data, 0, size, row_count);
    for (std::size_t number = 0; number < list.block_count(); ++number) {
      list.decode_rows(number, rows.data() + at);
      const PostingBlock block = list.block(number);
      const std::size_t own = list.size_of(number);
      for (std::size_t place = 0; place < own; ++place) {
        frequencies[at + place] = static_cast<std::uint16_t>(list.frequency(block, own, place));
      }
      at += own;
    }
    first = limit;
  }
}

}  // namespace whimbrel
