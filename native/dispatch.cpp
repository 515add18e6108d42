#include "dispatch.hpp"

#include <vector>

namespace whimbrel {

// The questions to the processor include whether the operating system saves the registers.
std::span<const Kernels> usable_kernels() {
  static const std::vector<Kernels> usable = [] {
    std::vector<Kernels> found;
#if defined(WHIMBREL_AVX2)
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#if defined(WHIMBREL_AVX512)
    if (avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vnni")) {
      found.push_back({"avx512", kDistanceAvx2, kRotateAvx2, kEncodeAvx2, kScanAvx512});
    }
#endif
    if (avx2) found.push_back({"avx2", kDistanceAvx2, kRotateAvx2, kEncodeAvx2, kScanAvx2});
#endif
    found.push_back({"scalar", kDistanceScalar, kRotateScalar, kEncodeScalar, kScanScalar});
    return found;
  }();
  return usable;
}

const Kernels* find_kernels(std::string_view isa) {
  for (const Kernels& kernels : usable_kernels()) {
    if (isa == kernels.isa) return &kernels;
  }
  return nullptr;
}

}  // namespace whimbrel
