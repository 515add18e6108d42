// Rows as bitmaps: one bit to a row, in words of 64, the least significant bit first.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace whimbrel {

// Both leave the words alone and return false when a row is not below `row_count`, which must be at
// most 64 to a word.
bool set_rows(std::span<std::uint64_t> words, std::size_t row_count,
              std::span<const std::uint32_t> rows);
bool flip_rows(std::span<std::uint64_t> words, std::size_t row_count,
               std::span<const std::uint32_t> rows);

std::uint64_t count_rows(std::span<const std::uint64_t> words);

// The rows whose bits are set, ascending.
std::vector<std::int64_t> list_rows(std::span<const std::uint64_t> words);

}  // namespace whimbrel
