// What the files of bindings share: array types, checks, and handing memory to NumPy.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <memory>
#include <span>
#include <stdexcept>
#include <utility>
#include <vector>

#include "dispatch.hpp"

namespace whimbrel {

namespace nb = nanobind;

// One-dimensional and two-dimensional arrays in C order; read-only ones are welcome where T is
// const.
template <typename T>
using Vector = nb::ndarray<T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
template <typename T>
using Table = nb::ndarray<T, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Matrix = Table<const float>;
template <typename T>
using NewArray = nb::ndarray<nb::numpy, T, nb::ndim<1>, nb::c_contig>;

inline void require(bool condition, const char* message) {
  if (!condition) throw std::invalid_argument(message);
}

inline const Kernels& kernels_of(const char* isa) {
  const Kernels* kernels = find_kernels(isa);
  require(kernels != nullptr, "kernel variant is not usable here");
  return *kernels;
}

template <typename T>
const unsigned char* bytes_of(const T& array) {
  return reinterpret_cast<const unsigned char*>(array.data());
}

inline Rows rows_of(const Matrix& rows) { return {bytes_of(rows), rows.shape(1)}; }

template <typename T>
std::span<T> span_of(const Vector<T>& vector) {
  return {vector.data(), vector.shape(0)};
}

// Hands a vector's memory to NumPy without copying it.
template <typename T>
NewArray<T> array_of(std::vector<T>&& values) {
  auto owner = std::make_unique<std::vector<T>>(std::move(values));
  T* const data = owner->data();
  const std::size_t size = owner->size();
  nb::capsule capsule(owner.get(),
                      [](void* held) noexcept { delete static_cast<std::vector<T>*>(held); });
  owner.release();
  return NewArray<T>(data, {size}, capsule);
}

// Adds the functions of 1-bit codes to the module.
void bind_codes(nb::module_& module);
void bind_probe(nb::module_& module);

// Adds the functions of bitmaps of rows to the module.
void bind_bitmap(nb::module_& module);

// Adds postings and what is found in them to the module.
void bind_text(nb::module_& module);

}  // namespace whimbrel
