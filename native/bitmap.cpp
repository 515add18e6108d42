#include "bitmap.hpp"

#include <algorithm>
#include <bit>

namespace whimbrel {
namespace {

// Kept apart from the loops that write, so that it compiles to a maximum over vectors.
bool all_below(std::span<const std::uint32_t> rows, std::size_t row_count) {
  std::uint32_t highest = 0;
  for (const std::uint32_t row : rows) highest = std::max(highest, row);
  return rows.empty() || highest < row_count;
}

constexpr std::uint64_t bit_of(std::uint32_t row) { return std::uint64_t{1} << (row & 63); }

// The number of bits set in each byte.
constexpr std::uint64_t byte_counts(std::uint64_t word) {
  word -= (word >> 1) & 0x5555555555555555;
  word = (word & 0x3333333333333333) + ((word >> 2) & 0x3333333333333333);
  return (word + (word >> 4)) & 0x0F0F0F0F0F0F0F0F;
}

constexpr std::uint64_t sum_of_bytes(std::uint64_t word) {
  word = (word & 0x00FF00FF00FF00FF) + ((word >> 8) & 0x00FF00FF00FF00FF);
  return (word * 0x0001000100010001) >> 48;
}

}  // namespace

bool set_rows(std::span<std::uint64_t> words, std::size_t row_count,
              std::span<const std::uint32_t> rows) {
  if (!all_below(rows, row_count)) return false;
  for (const std::uint32_t row : rows) words[row >> 6] |= bit_of(row);
  return true;
}

bool flip_rows(std::span<std::uint64_t> words, std::size_t row_count,
               std::span<const std::uint32_t> rows) {
  if (!all_below(rows, row_count)) return false;
  for (const std::uint32_t row : rows) words[row >> 6] ^= bit_of(row);
  return true;
}

// Not every processor we run on counts the bits of a word in one instruction, so bytes are counted
// side by side. A byte holds 31 counts of at most 8.
std::uint64_t count_rows(std::span<const std::uint64_t> words) {
  constexpr std::size_t kStep = 31;
  std::uint64_t total = 0;
  for (std::size_t start = 0; start < words.size(); start += kStep) {
    const std::size_t limit = std::min(start + kStep, words.size());
    std::uint64_t counts = 0;
    for (std::size_t i = start; i < limit; ++i) counts += byte_counts(words[i]);
    total += sum_of_bytes(counts);
  }
  return total;
}

std::vector<std::int64_t> list_rows(std::span<const std::uint64_t> words) {
  std::vector<std::int64_t> rows(count_rows(words));
  std::size_t found = 0;
  for (std::size_t i = 0; i < words.size(); ++i) {
    for (std::uint64_t word = words[i]; word != 0; word &= word - 1) {
      rows[found++] = static_cast<std::int64_t>(64 * i) + std::countr_zero(word);
    }
  }
  return rows;
}

}  // namespace whimbrel
