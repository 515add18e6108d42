// Rotating and encoding many rows, blocks of 32 codes, and terms of postings. Instruction sets do
// not matter here: the loops over coordinates come from a Kernels table.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "dispatch.hpp"
#include "nearest.hpp"

namespace whimbrel {

inline constexpr std::size_t kBlockRows = 32;

// Rotates rows to `out`, padded values each, after subtracting `origin` (dimension values, may be
// null) or dividing by `norms` (one to a row, may be null).
void rotate_rows(const Kernels& kernels, Rows rows, std::size_t count, std::uint64_t seed,
                 const unsigned char* origin, const double* norms, std::size_t padded, float* out);

// One code of padded / 8 bytes, two factors and one flag to a row.
struct CodeArrays {
  std::uint8_t* codes;
  float* add;
  float* scale;
  std::uint8_t* outside;
};

// Encodes rows and returns their spread. Postings must be below the number of centres.
double encode_rows(const Kernels& kernels, Rows rows, std::span<const std::uint32_t> posting,
                   Rows centres, std::size_t centre_count, Metric metric, const CodeArrays& out);

// `width` bytes to a code; blocks have 32 of those to a block, zeros where rows are missing.
void pack_blocks(const std::uint8_t* codes, std::size_t count, std::size_t width,
                 std::uint8_t* blocks);
void unpack_blocks(const std::uint8_t* blocks, std::size_t count, std::size_t width,
                   std::uint8_t* codes);

// Writes one term and one distance for each of the chosen centres. Indexes must be valid.
void posting_terms(const Kernels& kernels, const unsigned char* query, Rows centres,
                   std::span<const std::int64_t> chosen, Metric metric, float* terms,
                   float* distances);

}  // namespace whimbrel
