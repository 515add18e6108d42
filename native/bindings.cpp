// The extension module `whimbrel.kernel._native`: checks types, shapes and layouts, lets go of the
// interpreter lock, calls. No arithmetic. The Python functions that call this have checked ranges
// and lengths.
#include "bindings.hpp"

#include <nanobind/stl/optional.h>

#include <optional>

#include "float_text.hpp"
#include "nearest.hpp"
#include "query_scanner.hpp"
#include "scanner.hpp"

using namespace nanobind::literals;

namespace whimbrel {
namespace {

// What this module was compiled with, for `whimbrel version`; the compiler itself says so.
#if defined(__clang__)
constexpr const char* kCompiler = "Clang " __clang_version__;
#elif defined(__GNUC__)
constexpr const char* kCompiler = "GCC " __VERSION__;
#else
#error "neither GCC nor Clang: distances are not known to be right"
#endif

nb::tuple isas() {
  nb::list names;
  for (const Kernels& kernels : usable_kernels()) names.append(kernels.isa);
  return nb::tuple(names);
}

void row_norms_of(const char* isa, const Matrix& rows, const Vector<double>& out) {
  const DistanceKernels& kernels = kernels_of(isa).distance;
  require(rows.shape(0) == out.shape(0), "rows and out differ in length");
  nb::gil_scoped_release unlocked;
  row_norms(kernels, rows_of(rows), span_of(out));
}

Search search_of(const char* isa, const Vector<const float>& query, const Matrix& rows,
                 const Vector<const double>& norms, bool cosine) {
  require(query.shape(0) == rows.shape(1), "query and rows differ in dimension");
  require(norms.shape(0) == rows.shape(0), "norms and rows differ in length");
  return {kernels_of(isa).distance, bytes_of(query), rows_of(rows), span_of(norms),
          cosine ? Metric::kCosine : Metric::kEuclidean};
}

void distances_of(const char* isa, const Vector<const float>& query, const Matrix& rows,
                  const Vector<const double>& norms, const Vector<const std::int64_t>& chosen,
                  bool cosine, const Vector<double>& out) {
  const Search search = search_of(isa, query, rows, norms, cosine);
  require(chosen.shape(0) == out.shape(0), "chosen and out differ in length");
  nb::gil_scoped_release unlocked;
  distances(search, span_of(chosen), out.data());
}

nb::tuple nearest_of(const char* isa, const Vector<const float>& query, const Matrix& rows,
                     const Vector<const double>& norms, bool cosine, std::size_t k,
                     std::optional<Vector<const std::uint8_t>> keep) {
  const Search search = search_of(isa, query, rows, norms, cosine);
  require(k >= 1 || rows.shape(0) == 0, "k is below 1");
  require(!keep || keep->shape(0) == rows.shape(0), "keep and rows differ in length");
  Neighbours found;
  {
    nb::gil_scoped_release unlocked;
    if (k > 0) found = nearest(search, k, keep ? keep->data() : nullptr);
  }
  return nb::make_tuple(array_of(std::move(found.rows)), array_of(std::move(found.distances)));
}

// The bytes of any object with a contiguous buffer, held while this lives.
class Buffer {
 public:
  explicit Buffer(nb::handle object) {
    if (PyObject_GetBuffer(object.ptr(), &view_, PyBUF_SIMPLE) != 0) throw nb::python_error();
  }
  ~Buffer() { PyBuffer_Release(&view_); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  std::string_view text() const {
    return {static_cast<const char*>(view_.buf), static_cast<std::size_t>(view_.len)};
  }

 private:
  Py_buffer view_;
};

nb::object failure_of(const JsonFailure& failure) {
  constexpr const char* kKinds[] = {"none",      "encoding",  "depth", "syntax",
                                    "surrogate", "duplicate", "type"};
  if (failure.kind == JsonError::kNone) return nb::none();
  return nb::make_tuple(kKinds[static_cast<std::size_t>(failure.kind)], failure.path.c_str(),
                        failure.offset);
}

nb::list members_of(const ScannedPut& put) {
  nb::list members;
  for (std::size_t i = 0; i < kMemberNames.size(); ++i) {
    const std::string_view text = put.members[i];
    if (!text.empty()) {
      members.append(nb::make_tuple(kMemberNames[i].data(), nb::bytes(text.data(), text.size())));
    }
  }
  return members;
}

// Returns (failure, members, vector count, keys, key offsets, key lengths, values, value offsets,
// metadata, metadata offsets, flags); failure is None or (kind, path, offset), and without it comes
// nothing else.
nb::tuple scan_put_vectors_of(nb::handle body, std::size_t record_max) {
  const Buffer buffer(body);
  ScannedPut put;
  {
    nb::gil_scoped_release unlocked;
    put = scan_put_vectors(buffer.text(), record_max);
  }
  if (put.failure.kind != JsonError::kNone) return nb::make_tuple(failure_of(put.failure));
  return nb::make_tuple(
      nb::none(), members_of(put), put.vector_count, nb::bytes(put.keys.data(), put.keys.size()),
      array_of(std::move(put.key_offsets)), array_of(std::move(put.key_lengths_utf16)),
      array_of(std::move(put.values)), array_of(std::move(put.value_offsets)),
      nb::bytes(put.metadata.data(), put.metadata.size()),
      array_of(std::move(put.metadata_offsets)), array_of(std::move(put.flags)));
}

// Below this a body is read faster than another thread would give the interpreter lock back.
constexpr std::size_t kLockedBytesMax = 64 * 1024;
constexpr std::size_t kIntegerDigitsMax = 9;

// A member's value where that is simple; the text of any other as bytes, which nothing else
// becomes.
nb::object simple_value_of(std::string_view text) {
  if (text == "true") return nb::bool_(true);
  if (text == "false") return nb::bool_(false);
  if (text == "null") return nb::none();
  if (text.front() == '"') {
    const std::string value = string_of(text);
    return nb::str(value.data(), value.size());
  }
  const bool is_integer = text.find_first_not_of("0123456789") == std::string_view::npos;
  if (!is_integer || text.size() > kIntegerDigitsMax) return nb::bytes(text.data(), text.size());
  long value = 0;
  for (const char digit : text) value = value * 10 + (digit - '0');
  return nb::int_(value);
}

// Returns the vector's values and the other members in order, (name, value) each; None for a body
// that is not plain.
nb::object scan_query_of(nb::handle body) {
  const Buffer buffer(body);
  ScannedQuery query;
  if (buffer.text().size() <= kLockedBytesMax) {
    query = scan_query(buffer.text());
  } else {
    nb::gil_scoped_release unlocked;
    query = scan_query(buffer.text());
  }
  if (!query.plain) return nb::none();
  nb::list members;
  for (const ScannedQuery::Member& member : query.members) {
    members.append(nb::make_tuple(nb::str(member.name.data(), member.name.size()),
                                  simple_value_of(member.text)));
  }
  return nb::make_tuple(array_of(std::move(query.values)), members);
}

// Returns the text of all vectors and where each begins and ends in it.
nb::tuple write_vectors_of(const Vector<const float>& values,
                           const Vector<const std::int64_t>& bounds) {
  require(bounds.shape(0) >= 1, "bounds are empty");
  FloatText written;
  {
    nb::gil_scoped_release unlocked;
    written = write_vectors(span_of(values), span_of(bounds));
  }
  return nb::make_tuple(nb::bytes(written.text.data(), written.text.size()),
                        array_of(std::move(written.offsets)));
}

}  // namespace
}  // namespace whimbrel

NB_MODULE(_native, module) {
  using namespace whimbrel;
  module.attr("compiler") = kCompiler;
  module.attr("python") = PY_VERSION;
  module.def("isas", isas);
  module.def("row_norms", row_norms_of, "isa"_a, "rows"_a, "out"_a.noconvert());
  module.def("distances", distances_of, "isa"_a, "query"_a, "rows"_a.noconvert(), "norms"_a,
             "chosen"_a, "cosine"_a, "out"_a.noconvert());
  module.def("nearest", nearest_of, "isa"_a, "query"_a, "rows"_a.noconvert(), "norms"_a, "cosine"_a,
             "k"_a, "keep"_a = nb::none());
  bind_codes(module);
  bind_probe(module);
  bind_bitmap(module);
  bind_text(module);
  module.def("write_vectors", write_vectors_of, "values"_a.noconvert(), "bounds"_a.noconvert());
  module.def("scan_query", scan_query_of, "body"_a);
  module.def("scan_put_vectors", scan_put_vectors_of, "body"_a, "record_max"_a);
}
