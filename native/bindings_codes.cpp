// The part of the extension module about 1-bit codes; see bindings.cpp for what bindings do.
#include <nanobind/stl/optional.h>

#include <atomic>
#include <cstring>
#include <optional>

#include "bindings.hpp"
#include "candidates.hpp"
#include "codes.hpp"
#include "nearest.hpp"

namespace whimbrel {
namespace {

using namespace nb::literals;

// Reads a value that may lie at any address.
template <typename T, typename Array>
T value_at(const Array& array, std::size_t index) {
  T value;
  std::memcpy(&value, bytes_of(array) + index * sizeof(T), sizeof(T));
  return value;
}

std::vector<float> copy_of(const Vector<const float>& values) {
  std::vector<float> copy(values.shape(0));
  std::memcpy(copy.data(), values.data(), copy.size() * sizeof(float));
  return copy;
}

Metric metric_of(bool cosine) { return cosine ? Metric::kCosine : Metric::kEuclidean; }

void rotate_of(const char* isa, const Matrix& rows, std::uint64_t seed,
               std::optional<Vector<const float>> origin, std::optional<Vector<const double>> norms,
               const Table<float>& out) {
  const Kernels& kernels = kernels_of(isa);
  require(out.shape(0) == rows.shape(0), "rows and out differ in length");
  require(out.shape(1) % kDimensionStep == 0 && out.shape(1) >= rows.shape(1),
          "out has the wrong dimension");
  require(!origin || origin->shape(0) == rows.shape(1), "origin and rows differ in dimension");
  require(!norms || norms->shape(0) == rows.shape(0), "norms and rows differ in length");
  nb::gil_scoped_release unlocked;
  rotate_rows(kernels, rows_of(rows), rows.shape(0), seed, origin ? bytes_of(*origin) : nullptr,
              norms ? norms->data() : nullptr, out.shape(1), out.data());
}

double encode_of(const char* isa, const Matrix& rows, const Vector<const std::uint32_t>& posting,
                 const Matrix& centres, bool cosine, const Table<std::uint8_t>& codes,
                 const Vector<float>& add, const Vector<float>& scale,
                 const Vector<std::uint8_t>& outside) {
  const Kernels& kernels = kernels_of(isa);
  const std::size_t count = rows.shape(0);
  require(rows.shape(1) % kDimensionStep == 0 && centres.shape(1) == rows.shape(1),
          "rows or centres have the wrong dimension");
  require(posting.shape(0) == count && codes.shape(0) == count && add.shape(0) == count &&
              scale.shape(0) == count && outside.shape(0) == count,
          "arrays differ in length");
  require(codes.shape(1) * 8 == rows.shape(1), "codes have the wrong width");
  nb::gil_scoped_release unlocked;
  return encode_rows(kernels, rows_of(rows), span_of(posting), rows_of(centres), centres.shape(0),
                     metric_of(cosine), {codes.data(), add.data(), scale.data(), outside.data()});
}

void pack_of(const Table<const std::uint8_t>& codes, const Table<std::uint8_t>& blocks) {
  require(blocks.shape(0) == (codes.shape(0) + kBlockRows - 1) / kBlockRows &&
              blocks.shape(1) == codes.shape(1) * kBlockRows,
          "blocks have the wrong shape");
  nb::gil_scoped_release unlocked;
  pack_blocks(codes.data(), codes.shape(0), codes.shape(1), blocks.data());
}

void unpack_of(const Table<const std::uint8_t>& blocks, const Table<std::uint8_t>& codes) {
  require(codes.shape(0) <= blocks.shape(0) * kBlockRows &&
              blocks.shape(1) == codes.shape(1) * kBlockRows,
          "codes have the wrong shape");
  nb::gil_scoped_release unlocked;
  unpack_blocks(blocks.data(), codes.shape(0), codes.shape(1), codes.data());
}

void posting_terms_of(const char* isa, const Vector<const float>& query, const Matrix& centres,
                      const Vector<const std::int64_t>& chosen, bool cosine,
                      const Vector<float>& terms, const Vector<float>& distances) {
  const Kernels& kernels = kernels_of(isa);
  require(query.shape(0) == centres.shape(1), "query and centres differ in dimension");
  require(terms.shape(0) == chosen.shape(0) && distances.shape(0) == chosen.shape(0),
          "arrays differ in length");
  nb::gil_scoped_release unlocked;
  posting_terms(kernels, bytes_of(query), rows_of(centres), span_of(chosen), metric_of(cosine),
                terms.data(), distances.data());
}

nb::tuple table_of(const char* isa, const Vector<const float>& query, float norm_max,
                   const Vector<std::uint8_t>& entries) {
  const Kernels& kernels = kernels_of(isa);
  require(query.shape(0) % kDimensionStep == 0 && entries.shape(0) == 4 * query.shape(0),
          "entries have the wrong length");
  TableNumbers numbers;
  {
    nb::gil_scoped_release unlocked;
    numbers = build_table(kernels.scan, copy_of(query), norm_max, entries.data());
  }
  require(numbers.in_range, "query is out of range");
  return nb::make_tuple(numbers.step, numbers.bias, numbers.error);
}

// Candidates as Python sees them. Without the interpreter lock, two threads could meet in one pool;
// the second is turned away.
class Pool {
 public:
  Pool(const char* isa, std::size_t depth, std::size_t rows_max, float slack)
      : candidates_(kernels_of(isa).scan, depth, rows_max, slack) {
    require(depth >= 1 && rows_max >= depth, "depth or rows_max is out of range");
  }

  void scan(const Table<const std::uint8_t>& blocks, const Vector<const float>& add,
            const Vector<const float>& scale, const Vector<const std::uint8_t>& entries, float step,
            float bias, const Table<const std::int64_t>& ranges, const Vector<const float>& g,
            const Vector<const float>& g_error, std::optional<Vector<const std::uint8_t>> keep,
            std::uint32_t source) {
    const std::size_t row_count = blocks.shape(0) * kBlockRows;
    require(blocks.shape(1) == entries.shape(0) && blocks.shape(1) % (4 * kDimensionStep) == 0,
            "blocks do not fit the table");
    require(add.shape(0) == row_count && scale.shape(0) == row_count,
            "add or scale has the wrong length");
    require(ranges.shape(1) == 2, "ranges are not pairs");
    require(g.shape(0) == ranges.shape(0) && g_error.shape(0) == ranges.shape(0),
            "ranges, g and g_error differ in length");
    const Use use(busy_);
    const ScanInput input = {blocks.data(),
                             bytes_of(add),
                             bytes_of(scale),
                             keep ? keep->data() : nullptr,
                             keep ? keep->shape(0) : 0,
                             entries.data(),
                             blocks.shape(1) / kBlockRows,
                             step,
                             bias,
                             0.0F,
                             0.0F,
                             0,
                             0};
    nb::gil_scoped_release unlocked;
    const auto posting = [&](std::size_t i) {
      return Posting{value_at<std::int64_t>(ranges, 2 * i),
                     value_at<std::int64_t>(ranges, 2 * i + 1), value_at<float>(g, i),
                     value_at<float>(g_error, i)};
    };
    for (std::size_t i = 0; i < ranges.shape(0); ++i) {
      const Posting checked = posting(i);
      require(0 <= checked.start && checked.start <= checked.limit &&
                  checked.limit <= static_cast<std::int64_t>(row_count),
              "a range is out of range");
    }
    for (std::size_t i = 0; i < ranges.shape(0); ++i) candidates_.scan(input, posting(i), source);
  }

  nb::tuple take() {
    const Use use(busy_);
    std::vector<std::uint32_t> source, row;
    std::vector<float> estimate, lower;
    {
      nb::gil_scoped_release unlocked;
      for (const Candidate& candidate : candidates_.take()) {
        source.push_back(candidate.source);
        row.push_back(candidate.row);
        estimate.push_back(candidate.estimate);
        lower.push_back(candidate.lower);
      }
    }
    return nb::make_tuple(array_of(std::move(source)), array_of(std::move(row)),
                          array_of(std::move(estimate)), array_of(std::move(lower)));
  }

  float limit() {
    const Use use(busy_);
    return candidates_.limit();
  }

  std::uint64_t rows_scanned() const { return candidates_.rows_scanned(); }
  std::uint64_t blocks_scanned() const { return candidates_.blocks_scanned(); }

 private:
  class Use {
   public:
    explicit Use(std::atomic<bool>& busy) : busy_(busy) {
      if (busy_.exchange(true)) throw std::runtime_error("pool is used by two threads at once");
    }
    ~Use() { busy_.store(false); }
    Use(const Use&) = delete;
    Use& operator=(const Use&) = delete;

   private:
    std::atomic<bool>& busy_;
  };

  Candidates candidates_;
  std::atomic<bool> busy_{false};
};

}  // namespace

void bind_codes(nb::module_& module) {
  module.def("rotate", rotate_of, "isa"_a, "rows"_a.noconvert(), "seed"_a, "origin"_a.none(),
             "norms"_a.none(), "out"_a.noconvert());
  module.def("encode_rows", encode_of, "isa"_a, "rows"_a.noconvert(), "posting"_a,
             "centres"_a.noconvert(), "cosine"_a, "codes"_a.noconvert(), "add"_a.noconvert(),
             "scale"_a.noconvert(), "outside"_a.noconvert());
  module.def("pack_blocks", pack_of, "codes"_a.noconvert(), "blocks"_a.noconvert());
  module.def("unpack_blocks", unpack_of, "blocks"_a.noconvert(), "codes"_a.noconvert());
  module.def("posting_terms", posting_terms_of, "isa"_a, "query"_a, "centres"_a.noconvert(),
             "chosen"_a, "cosine"_a, "terms"_a.noconvert(), "distances"_a.noconvert());
  module.def("query_table", table_of, "isa"_a, "query"_a, "norm_max"_a, "entries"_a.noconvert());
  nb::class_<Pool>(module, "Pool")
      .def(nb::init<const char*, std::size_t, std::size_t, float>(), "isa"_a, "depth"_a,
           "rows_max"_a, "slack"_a)
      .def("scan", &Pool::scan, "blocks"_a.noconvert(), "add"_a.noconvert(), "scale"_a.noconvert(),
           "entries"_a.noconvert(), "step"_a, "bias"_a, "ranges"_a.noconvert(), "g"_a.noconvert(),
           "g_error"_a.noconvert(), "keep"_a.none().noconvert(), "source"_a)
      .def("take", &Pool::take)
      .def_prop_ro("limit", &Pool::limit)
      .def_prop_ro("rows_scanned", &Pool::rows_scanned)
      .def_prop_ro("blocks_scanned", &Pool::blocks_scanned);
}

}  // namespace whimbrel
