// The part of the extension module about bitmaps of rows; see bindings.cpp for what bindings do.
#include "bindings.hpp"
#include "bitmap.hpp"

namespace whimbrel {
namespace {

using namespace nb::literals;

using Words = Vector<std::uint64_t>;
using Rows32 = Vector<const std::uint32_t>;

void require_room(const Words& words, std::size_t row_count) {
  require(row_count <= 64 * words.shape(0), "words are too few for the rows");
}

// Small calls keep the lock: letting go of it costs more than they do.
constexpr std::size_t kLockedMax = 4096;

template <bool (*kChange)(std::span<std::uint64_t>, std::size_t, std::span<const std::uint32_t>)>
bool change(const Words& words, std::size_t row_count, const Rows32& rows) {
  require_room(words, row_count);
  if (rows.shape(0) <= kLockedMax) return kChange(span_of(words), row_count, span_of(rows));
  nb::gil_scoped_release unlocked;
  return kChange(span_of(words), row_count, span_of(rows));
}

std::uint64_t count_of(const Vector<const std::uint64_t>& words) {
  return count_rows(span_of(words));
}

NewArray<std::int64_t> list_of(const Vector<const std::uint64_t>& words) {
  std::vector<std::int64_t> rows;
  {
    nb::gil_scoped_release unlocked;
    rows = list_rows(span_of(words));
  }
  return array_of(std::move(rows));
}

}  // namespace

void bind_bitmap(nb::module_& module) {
  module.def("set_rows", change<set_rows>, "words"_a.noconvert(), "row_count"_a,
             "rows"_a.noconvert());
  module.def("flip_rows", change<flip_rows>, "words"_a.noconvert(), "row_count"_a,
             "rows"_a.noconvert());
  module.def("count_rows", count_of, "words"_a.noconvert());
  module.def("list_rows", list_of, "words"_a.noconvert());
}

}  // namespace whimbrel
