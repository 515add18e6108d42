// Scans of 1-bit codes by table lookup; src/whimbrel/kernel/numpy_fastscan.py is the specification.
//
// A block holds 32 rows in 32 bytes for each byte of a code, that is, for each pair of tables. Of
// these, byte i < 16 holds row i's index into the first table of the pair in its low nibble and row
// (i + 16)'s in its high nibble; byte 16 + i holds those into the second table likewise.
//
// Sums of entries are integers and exact. Estimates are float32 in one fixed order, without fused
// operations, so every variant gives the same bits:
//   estimate = (add + term) + scale * (step * sum + bias), lower = estimate - |scale| * error.
//
// The scalar file and those for an instruction set include nothing but this header and intrinsics.
#pragma once

#include <cstddef>
#include <cstdint>

namespace whimbrel {

inline constexpr std::size_t kTableEntries = 16;

// What a scan of one posting reads. Arrays may lie at any address.
struct ScanInput {
  const std::uint8_t* blocks;
  const unsigned char* add;    // float32, 32 to a block
  const unsigned char* scale;  // float32, 32 to a block
  const std::uint8_t* keep;    // one bit to a row, or null
  std::size_t keep_bytes;      // bits beyond are zero
  const std::uint8_t* entries;
  std::size_t width;  // bytes of a code
  float step;
  float bias;
  float term;
  float error;
  std::size_t last;         // the posting's last block
  std::uint32_t last_mask;  // its rows there
};

// Where a scan is, what it has counted, and the rows that it found.
struct ScanState {
  std::size_t block;   // the next one
  std::uint32_t mask;  // rows of the posting there
  float limit;         // rows whose lower bound is greater do not count as found
  std::uint64_t rows_scanned;
  std::uint64_t blocks_scanned;
  // Of the block that was read last, if any of its rows are near; a set bit means found.
  std::uint32_t found;
  float estimate[32];
  float lower[32];
};

struct ScanKernels {
  // Scans from state.block on, until a block has a row within the limit, which makes the result
  // true, or until the posting ends. Leaves state.block at the next block to read.
  bool (*scan)(const ScanInput& input, ScanState& state);
  // Writes 16 entries for each four of `padded` values, a multiple of 64; `factor` is steps to a
  // unit and `sums` the sum of sizes of each four.
  void (*table)(const float* query, const float* sums, std::size_t padded, float factor,
                std::uint8_t* entries);
};

// Returns which of a block's rows are kept. Static, so that no copy compiled for one instruction
// set serves the files of another.
static inline std::uint32_t kept_rows(const ScanInput& input, std::size_t block) {
  if (input.keep == nullptr) return 0xFFFFFFFFU;
  const std::size_t start = 4 * block;
  std::uint32_t kept = 0;
  if (start + 4 <= input.keep_bytes) {
    const std::uint8_t* const bytes = input.keep + start;
    kept = static_cast<std::uint32_t>(bytes[0]) | static_cast<std::uint32_t>(bytes[1]) << 8 |
           static_cast<std::uint32_t>(bytes[2]) << 16 | static_cast<std::uint32_t>(bytes[3]) << 24;
    return kept;
  }
  for (std::size_t i = start; i < input.keep_bytes; ++i) {
    kept |= static_cast<std::uint32_t>(input.keep[i]) << (8 * (i - start));
  }
  return kept;
}

extern const ScanKernels kScanScalar;
#if defined(WHIMBREL_AVX2)
extern const ScanKernels kScanAvx2;
#endif
#if defined(WHIMBREL_AVX512)
extern const ScanKernels kScanAvx512;
#endif

}  // namespace whimbrel
