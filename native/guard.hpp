// Says which pieces of an array may be read. Bytes of a stored object are verified a piece at a
// time, when they are first needed; whoever holds the checksums does it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <utility>

namespace whimbrel {

class Guard {
 public:
  // All of it may be read.
  Guard() = default;

  // `flags` has one byte to a piece of `piece_bytes`, not zero where it was verified. `verify`
  // makes it so, or throws, or leaves it zero where the piece is not here yet.
  Guard(const std::uint8_t* flags, std::size_t piece_bytes, std::function<void(std::size_t)> verify)
      : flags_(flags), piece_bytes_(piece_bytes), verify_(std::move(verify)) {}

  // Verifies bytes start to limit - 1; returns false when not all are here: none may be read then.
  bool ensure(std::size_t start, std::size_t limit) const {
    if (flags_ == nullptr || start >= limit) return true;
    bool is_here = true;
    const std::size_t last = (limit - 1) / piece_bytes_;
    for (std::size_t piece = start / piece_bytes_; piece <= last; ++piece) {
      if (is_verified(piece)) continue;
      verify_(piece);
      is_here = is_verified(piece) && is_here;
    }
    return is_here;
  }

 private:
  bool is_verified(std::size_t piece) const {
    return __atomic_load_n(flags_ + piece, __ATOMIC_ACQUIRE) != 0;
  }

  const std::uint8_t* flags_ = nullptr;
  std::size_t piece_bytes_ = 1;
  std::function<void(std::size_t)> verify_;
};

}  // namespace whimbrel
