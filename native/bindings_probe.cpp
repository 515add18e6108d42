// The part of the extension module about probes; see bindings.cpp for what bindings do.
#include <nanobind/stl/optional.h>

#include <algorithm>
#include <cstring>
#include <optional>

#include "bindings.hpp"
#include "codes.hpp"
#include "probe.hpp"
#include "rerank.hpp"

namespace whimbrel {
namespace {

using namespace nb::literals;

using Bytes = Vector<const std::uint8_t>;
using Floats = Vector<const float>;

// Makes a guard of (flags, bytes to a piece, function that verifies a piece), or of None. The flags
// stay alive with what is guarded; Python verifies, with the interpreter lock.
Guard guard_of(const nb::object& item, std::vector<Bytes>& held) {
  if (item.is_none()) return {};
  const auto parts = nb::cast<nb::tuple>(item);
  require(parts.size() == 3, "a guard has three parts");
  held.push_back(nb::cast<Bytes>(parts[0], false));
  const auto piece_bytes = nb::cast<std::size_t>(parts[1]);
  require(piece_bytes > 0, "pieces are empty");
  // Shared, as copies of the function may be made and dropped without the interpreter lock.
  const std::shared_ptr<nb::object> verify(new nb::object(parts[2]), [](nb::object* function) {
    nb::gil_scoped_acquire locked;
    delete function;
  });
  return {held.back().data(), piece_bytes, [verify](std::size_t piece) {
            nb::gil_scoped_acquire locked;
            (*verify)(piece);
          }};
}

// Requires that a guard has a flag for each piece of `bytes`.
void check_guard(const Bytes* flags, std::size_t piece_bytes, std::size_t bytes) {
  if (flags != nullptr) {
    require(flags->shape(0) * piece_bytes >= bytes, "a guard has too few pieces");
  }
}

Guard checked_guard(const nb::object& item, std::vector<Bytes>& held, std::size_t bytes) {
  Guard guard = guard_of(item, held);
  if (!item.is_none()) {
    check_guard(&held.back(), nb::cast<std::size_t>(nb::cast<nb::tuple>(item)[1]), bytes);
  }
  return guard;
}

// Vectors and norms as Python hands them in; keeps the arrays alive.
class HeldStored {
 public:
  HeldStored(Matrix rows, Vector<const double> norms, const nb::object& row_guard,
             const nb::object& norm_guard)
      : rows_(std::move(rows)), norms_(std::move(norms)) {
    const std::size_t count = rows_.shape(0);
    require(norms_.shape(0) == count, "norms and rows differ in length");
    parts = {rows_of(rows_), bytes_of(norms_), count,
             checked_guard(row_guard, flags_, count * rows_.shape(1) * sizeof(float)),
             checked_guard(norm_guard, flags_, count * sizeof(double))};
  }

  StoredRows parts;

 private:
  Matrix rows_;
  Vector<const double> norms_;
  std::vector<Bytes> flags_;
};

// Codes by posting list as Python hands them in; keeps the arrays alive.
class HeldCoded {
 public:
  HeldCoded(std::size_t dimension, std::uint64_t seed, std::optional<Floats> origin,
            Table<const std::uint8_t> blocks, Floats add, Floats scale,
            Vector<const std::int64_t> starts, Matrix centres, Floats spreads, float spread,
            Vector<const std::uint32_t> outside, const nb::object& centre_codes,
            const nb::object& guards)
      : origin_(std::move(origin)),
        blocks_(std::move(blocks)),
        add_(std::move(add)),
        scale_(std::move(scale)),
        starts_(std::move(starts)),
        centres_(std::move(centres)),
        spreads_(std::move(spreads)),
        outside_(std::move(outside)) {
    check(dimension);
    parts = {dimension,
             seed,
             origin_ ? bytes_of(*origin_) : nullptr,
             blocks_.data(),
             bytes_of(add_),
             bytes_of(scale_),
             span_of(starts_),
             rows_of(centres_),
             bytes_of(spreads_),
             spread,
             span_of(outside_),
             codes_of(centre_codes),
             CentreSquares(rows_of(centres_), centres_.shape(0)),
             {},
             {},
             {},
             {},
             has_empty_lists(span_of(starts_))};
    if (!guards.is_none()) hold_guards(nb::cast<nb::tuple>(guards));
  }

  CodedRows parts;

 private:
  void check(std::size_t dimension) const {
    require(starts_.shape(0) >= 2 && centres_.shape(0) == starts_.shape(0) - 1 &&
                spreads_.shape(0) == centres_.shape(0),
            "starts, centres and spreads differ in length");
    require(centres_.shape(1) % kDimensionStep == 0 && dimension <= centres_.shape(1) &&
                blocks_.shape(1) == 4 * centres_.shape(1),
            "blocks or centres have the wrong shape");
    require(!origin_ || origin_->shape(0) == dimension, "origin has the wrong dimension");
    const std::span<const std::int64_t> starts = span_of(starts_);
    require(starts[0] == 0, "lists do not start at the first row");
    for (std::size_t i = 0; i + 1 < starts.size(); ++i) {
      require(starts[i] <= starts[i + 1], "starts descend");
    }
    const auto count = static_cast<std::size_t>(starts.back());
    check_codes(blocks_, add_, scale_, count);
    for (const std::uint32_t row : span_of(outside_)) {
      require(row < count, "a row outside does not exist");
    }
  }

  static bool has_empty_lists(std::span<const std::int64_t> starts) {
    return std::adjacent_find(starts.begin(), starts.end()) != starts.end();
  }

  static void check_codes(const Table<const std::uint8_t>& blocks, const Floats& add,
                          const Floats& scale, std::size_t count) {
    const std::size_t row_count = blocks.shape(0) * kBlockRows;
    require(add.shape(0) == row_count && scale.shape(0) == row_count,
            "add or scale has the wrong length");
    require(count <= row_count, "blocks hold too few rows");
  }

  CentreCodes codes_of(const nb::object& item) {
    if (item.is_none()) return {};
    const auto codes = nb::cast<nb::tuple>(item);
    centre_blocks_ = nb::cast<Table<const std::uint8_t>>(codes[0], false);
    for (std::size_t i = 1; i <= 3; ++i) {
      centre_floats_.push_back(nb::cast<Floats>(codes[i], false));
    }
    require(centre_blocks_->shape(1) == blocks_.shape(1) &&
                centre_floats_[2].shape(0) == centres_.shape(1),
            "codes of centres have the wrong shape");
    check_codes(*centre_blocks_, centre_floats_[0], centre_floats_[1], centres_.shape(0));
    return {centre_blocks_->data(), bytes_of(centre_floats_[0]), bytes_of(centre_floats_[1]),
            bytes_of(centre_floats_[2])};
  }

  void hold_guards(const nb::tuple& guards) {
    require(guards.size() == 4, "there are four guards");
    flags_.reserve(4);
    parts.block_guard = checked_guard(guards[0], flags_, blocks_.size());
    parts.add_guard = checked_guard(guards[1], flags_, add_.size() * sizeof(float));
    parts.scale_guard = checked_guard(guards[2], flags_, scale_.size() * sizeof(float));
    parts.centre_guard = checked_guard(guards[3], flags_, centres_.size() * sizeof(float));
  }

  std::optional<Floats> origin_;
  Table<const std::uint8_t> blocks_;
  Floats add_, scale_;
  Vector<const std::int64_t> starts_;
  Matrix centres_;
  Floats spreads_;
  Vector<const std::uint32_t> outside_;
  std::optional<Table<const std::uint8_t>> centre_blocks_;
  std::vector<Floats> centre_floats_;
  std::vector<Bytes> flags_;
};

std::vector<const StoredRows*> stored_of(const nb::list& items, std::size_t dimension) {
  std::vector<const StoredRows*> stored;
  for (const nb::handle item : items) {
    stored.push_back(&nb::cast<const HeldStored&>(item).parts);
    require(stored.back()->rows.dimension == dimension, "query and rows differ in dimension");
  }
  return stored;
}

Metric metric_of(bool cosine) { return cosine ? Metric::kCosine : Metric::kEuclidean; }

// The sources of a probe as Python hands them in; keeps all of them alive. A source is (coded rows,
// number of the stored rows, first row there, bits to keep or None).
class HeldSources {
 public:
  HeldSources(const nb::list& sources, const nb::list& stored)
      : sources_(sources), stored_(stored) {
    require(nb::len(sources) > 0, "there is no source");
    for (const nb::handle item : stored) {
      arrays.push_back(&nb::cast<const HeldStored&>(item).parts);
    }
    keeps_.reserve(nb::len(sources));
    for (const nb::handle item : sources) add(nb::cast<nb::tuple>(item));
  }

  std::vector<ProbeSource> parts;
  std::vector<const StoredRows*> arrays;

 private:
  void add(const nb::tuple& source) {
    const CodedRows& coded = nb::cast<const HeldCoded&>(source[0]).parts;
    const auto number = nb::cast<std::uint32_t>(source[1]);
    const auto first_row = nb::cast<std::int64_t>(source[2]);
    require(number < arrays.size() && coded.dimension == arrays[number]->rows.dimension &&
                (parts.empty() || parts[0].coded.dimension == coded.dimension),
            "a source does not fit its array");
    require(first_row >= 0 &&
                first_row + coded.starts.back() <= static_cast<std::int64_t>(arrays[number]->count),
            "a source has more rows than are stored");
    parts.push_back({coded, number, first_row, nullptr, 0});
    if (!source[3].is_none()) {
      keeps_.push_back(nb::cast<Bytes>(source[3], false));
      parts.back().keep = keeps_.back().data();
      parts.back().keep_bytes = keeps_.back().shape(0);
    }
  }

  nb::list sources_, stored_;
  std::vector<Bytes> keeps_;
};

nb::tuple probe_of(const char* isa, const HeldSources& sources, const Floats& query, bool cosine,
                   std::size_t k, std::size_t rows_max, std::int64_t row_budget, float epsilon,
                   std::size_t first_list_count, double first_share, std::size_t first_ratio,
                   std::size_t first_rows, double rounding, double norm_min, double norm_max) {
  const Kernels& kernels = kernels_of(isa);
  require(k >= 1 && rows_max >= k, "k or rows_max is out of range");
  require(sources.parts[0].coded.dimension == query.shape(0), "query has the wrong dimension");
  Probed found;
  {
    nb::gil_scoped_release unlocked;
    found = probe(kernels, sources.parts, sources.arrays, bytes_of(query),
                  {metric_of(cosine), k, rows_max, row_budget, epsilon, first_list_count,
                   first_share, first_ratio, first_rows, rounding, norm_min, norm_max});
  }
  if (!found.in_range) return nb::make_tuple();
  if (found.is_absent) {
    return nb::make_tuple(array_of(std::move(found.stored)), array_of(std::move(found.row)));
  }
  return nb::make_tuple(array_of(std::move(found.stored)), array_of(std::move(found.row)),
                        array_of(std::move(found.distance)), found.row_count, found.list_count,
                        found.exact_count);
}

bool rerank_of(const char* isa, const Floats& query, const nb::list& stored,
               const Vector<const std::uint32_t>& number, const Vector<const std::int64_t>& row,
               bool cosine, const Vector<double>& out) {
  const Kernels& kernels = kernels_of(isa);
  require(number.shape(0) == row.shape(0) && out.shape(0) == row.shape(0),
          "arrays differ in length");
  const std::vector<const StoredRows*> arrays = stored_of(stored, query.shape(0));
  const std::span<const std::uint32_t> numbers = span_of(number);
  const std::span<const std::int64_t> rows = span_of(row);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (numbers[i] >= arrays.size() || rows[i] < 0 ||
        static_cast<std::size_t>(rows[i]) >= arrays[numbers[i]]->count) {
      throw nb::index_error("candidate is out of range");
    }
  }
  nb::gil_scoped_release unlocked;
  return rerank(kernels.distance, {bytes_of(query), query.shape(0), metric_of(cosine)}, arrays,
                numbers, rows, out.data());
}

}  // namespace

void bind_probe(nb::module_& module) {
  nb::class_<HeldStored>(module, "StoredRows")
      .def(nb::init<Matrix, Vector<const double>, const nb::object&, const nb::object&>(),
           "rows"_a.noconvert(), "norms"_a.noconvert(), "row_guard"_a.none(),
           "norm_guard"_a.none());
  nb::class_<HeldCoded>(module, "CodedRows")
      .def(nb::init<std::size_t, std::uint64_t, std::optional<Floats>, Table<const std::uint8_t>,
                    Floats, Floats, Vector<const std::int64_t>, Matrix, Floats, float,
                    Vector<const std::uint32_t>, const nb::object&, const nb::object&>(),
           "dimension"_a, "seed"_a, "origin"_a.none().noconvert(), "blocks"_a.noconvert(),
           "add"_a.noconvert(), "scale"_a.noconvert(), "starts"_a.noconvert(),
           "centres"_a.noconvert(), "spreads"_a.noconvert(), "spread"_a, "outside"_a.noconvert(),
           "centre_codes"_a.none(), "guards"_a.none());
  nb::class_<HeldSources>(module, "ProbeSources")
      .def(nb::init<const nb::list&, const nb::list&>(), "sources"_a, "stored"_a);
  module.def("probe", probe_of, "isa"_a, "sources"_a, "query"_a.noconvert(), "cosine"_a, "k"_a,
             "rows_max"_a, "row_budget"_a, "epsilon"_a, "first_list_count"_a, "first_share"_a,
             "first_ratio"_a, "first_rows"_a, "rounding"_a, "norm_min"_a, "norm_max"_a);
  module.def("rerank", rerank_of, "isa"_a, "query"_a, "stored"_a, "number"_a, "row"_a, "cosine"_a,
             "out"_a.noconvert());
}

}  // namespace whimbrel
