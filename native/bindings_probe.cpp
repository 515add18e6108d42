// The part of the extension module about probes; see bindings.cpp for what bindings do.
#include <optional>

#include "bindings.hpp"
#include "codes.hpp"
#include "probe.hpp"

namespace whimbrel {
namespace {

using namespace nb::literals;

using Bytes = Table<const std::uint8_t>;
using Floats = Vector<const float>;

// Keeps the arrays of one source alive while a probe reads them.
struct HeldSource {
  Bytes blocks;
  Floats add, scale;
  Vector<const std::int64_t> starts;
  Matrix centres;
  Floats spreads, query;
  Vector<const std::uint8_t> entries;
  std::optional<Vector<const std::uint8_t>> keep;
  std::optional<Bytes> centre_blocks;
  std::optional<Floats> centre_add, centre_scale;
  float step, bias, error_factor, error_offset, centre_term;
};

template <typename T>
T cast_item(const nb::tuple& tuple, std::size_t index) {
  return nb::cast<T>(tuple[index], false);
}

template <typename T>
std::optional<T> cast_optional(const nb::tuple& tuple, std::size_t index) {
  if (tuple[index].is_none()) return std::nullopt;
  return nb::cast<T>(tuple[index], false);
}

// The order is that of whimbrel.kernel.probe.
HeldSource hold(const nb::tuple& items) {
  require(items.size() == 17, "a source has 17 items");
  return {cast_item<Bytes>(items, 0),
          cast_item<Floats>(items, 1),
          cast_item<Floats>(items, 2),
          cast_item<Vector<const std::int64_t>>(items, 3),
          cast_item<Matrix>(items, 4),
          cast_item<Floats>(items, 5),
          cast_item<Floats>(items, 6),
          cast_item<Vector<const std::uint8_t>>(items, 7),
          cast_optional<Vector<const std::uint8_t>>(items, 8),
          cast_optional<Bytes>(items, 9),
          cast_optional<Floats>(items, 10),
          cast_optional<Floats>(items, 11),
          nb::cast<float>(items[12]),
          nb::cast<float>(items[13]),
          nb::cast<float>(items[14]),
          nb::cast<float>(items[15]),
          nb::cast<float>(items[16])};
}

void check_codes(const Bytes& blocks, const Floats& add, const Floats& scale, std::size_t rows,
                 std::size_t entries) {
  require(blocks.shape(1) == entries && blocks.shape(1) % (4 * kDimensionStep) == 0,
          "blocks do not fit the table");
  const std::size_t row_count = blocks.shape(0) * kBlockRows;
  require(add.shape(0) == row_count && scale.shape(0) == row_count,
          "add or scale has the wrong length");
  require(rows <= row_count, "blocks hold too few rows");
}

ProbeSource source_of(const HeldSource& held) {
  const std::size_t width = held.blocks.shape(1);
  require(held.starts.shape(0) >= 2, "a source has no lists");
  const std::size_t count = held.starts.shape(0) - 1;
  const std::span<const std::int64_t> starts = span_of(held.starts);
  require(starts[0] == 0, "lists do not start at the first row");
  for (std::size_t i = 0; i < count; ++i) {
    require(starts[i] <= starts[i + 1], "starts descend");
  }
  check_codes(held.blocks, held.add, held.scale, static_cast<std::size_t>(starts[count]),
              held.entries.shape(0));
  require(held.centres.shape(0) == count && held.spreads.shape(0) == count &&
              held.centres.shape(1) * 4 == width && held.query.shape(0) * 4 == width,
          "centres, spreads or query have the wrong shape");
  CentreCodes codes{};
  if (held.centre_blocks) {
    require(held.centre_add && held.centre_scale, "codes of centres are not complete");
    check_codes(*held.centre_blocks, *held.centre_add, *held.centre_scale, count,
                held.entries.shape(0));
    codes = {held.centre_blocks->data(), bytes_of(*held.centre_add), bytes_of(*held.centre_scale),
             held.centre_term};
  }
  const ScanInput input = {held.blocks.data(),
                           bytes_of(held.add),
                           bytes_of(held.scale),
                           held.keep ? held.keep->data() : nullptr,
                           held.keep ? held.keep->shape(0) : 0,
                           held.entries.data(),
                           width / kBlockRows,
                           held.step,
                           held.bias,
                           0.0F,
                           0.0F,
                           0,
                           0};
  return {input,
          starts,
          rows_of(held.centres),
          bytes_of(held.spreads),
          held.error_factor,
          held.error_offset,
          bytes_of(held.query),
          codes};
}

nb::tuple probe_of(const char* isa, const nb::list& sources, bool cosine, std::size_t depth,
                   std::size_t rows_max, float slack, std::int64_t row_budget,
                   std::size_t first_list_count, double first_share) {
  const Kernels& kernels = kernels_of(isa);
  require(depth >= 1 && rows_max >= depth, "depth or rows_max is out of range");
  std::vector<HeldSource> held;
  for (const nb::handle source : sources) held.push_back(hold(nb::cast<nb::tuple>(source)));
  std::vector<ProbeSource> parts;
  std::vector<std::uint32_t> source, row;
  std::vector<float> estimate, lower;
  Probed probed;
  {
    nb::gil_scoped_release unlocked;
    for (const HeldSource& one : held) parts.push_back(source_of(one));
    Candidates pool(kernels.scan, depth, rows_max, slack);
    probed = probe(kernels, parts, cosine ? Metric::kCosine : Metric::kEuclidean, pool,
                   {row_budget, first_list_count, first_share});
    for (const Candidate& candidate : probed.candidates) {
      source.push_back(candidate.source);
      row.push_back(candidate.row);
      estimate.push_back(candidate.estimate);
      lower.push_back(candidate.lower);
    }
  }
  return nb::make_tuple(array_of(std::move(source)), array_of(std::move(row)),
                        array_of(std::move(estimate)), array_of(std::move(lower)), probed.row_count,
                        probed.list_count);
}

}  // namespace

void bind_probe(nb::module_& module) {
  module.def("probe", probe_of, "isa"_a, "sources"_a, "cosine"_a, "depth"_a, "rows_max"_a,
             "slack"_a, "row_budget"_a, "first_list_count"_a, "first_share"_a);
}

}  // namespace whimbrel
