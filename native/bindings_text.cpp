// The part of the extension module about text; see bindings.cpp for what bindings do.
#include <nanobind/stl/optional.h>

#include <optional>

#include "bindings.hpp"
#include "bm25.hpp"
#include "postings.hpp"

namespace whimbrel {
namespace {

using namespace nb::literals;

using Bytes = Vector<const std::uint8_t>;
using Words = Vector<const std::uint64_t>;
using Lengths = Vector<const std::uint16_t>;

// A posting list and the arrays that it reads.
class HeldList {
 public:
  HeldList(Bytes blocks, Bytes data, std::uint32_t data_start, std::size_t count,
           std::size_t row_count)
      : blocks_(std::move(blocks)),
        data_(std::move(data)),
        list_(span_of(blocks_), span_of(data_), data_start, count, row_count) {}

  const PostingList& list() const { return list_; }
  std::size_t count() const { return list_.count(); }

 private:
  Bytes blocks_;
  Bytes data_;
  PostingList list_;
};

nb::tuple encode_of(const Vector<const std::int64_t>& starts,
                    const Vector<const std::uint32_t>& rows, const Lengths& frequencies,
                    const Lengths& lengths) {
  require(starts.shape(0) > 0, "starts are missing");
  require(rows.shape(0) == frequencies.shape(0), "a row has no frequency");
  const auto bounds = span_of(starts);
  require(bounds[0] == 0 && bounds.back() == static_cast<std::int64_t>(rows.shape(0)),
          "starts do not cover the rows");
  for (std::size_t term = 0; term + 1 < bounds.size(); ++term) {
    require(bounds[term] < bounds[term + 1], "a term has no postings");
    for (auto at = static_cast<std::size_t>(bounds[term]);
         at < static_cast<std::size_t>(bounds[term + 1]); ++at) {
      require(rows(at) < lengths.shape(0), "a row is out of range");
      require(frequencies(at) > 0, "a frequency is zero");
      const bool is_first = at == static_cast<std::size_t>(bounds[term]);
      require(is_first || rows(at - 1) < rows(at), "rows do not ascend");
    }
  }
  EncodedPostings out;
  bool fits = false;
  {
    nb::gil_scoped_release unlocked;
    fits = encode_postings(bounds, span_of(rows), span_of(frequencies), span_of(lengths), out);
  }
  require(fits, "postings are larger than 4 GiB");
  return nb::make_tuple(array_of(std::move(out.block_starts)), array_of(std::move(out.blocks)),
                        array_of(std::move(out.data)));
}

nb::tuple decode_of(const Bytes& blocks, const Bytes& data,
                    const Vector<const std::int64_t>& counts, std::size_t row_count) {
  std::size_t total = 0;
  std::size_t room = 0;
  for (const std::int64_t count : span_of(counts)) {
    require(count > 0 && static_cast<std::size_t>(count) <= row_count, "a count is out of range");
    total += static_cast<std::size_t>(count);
    room += (static_cast<std::size_t>(count) + kBlockPostings - 1) / kBlockPostings * kBlockBytes;
    require(room <= blocks.shape(0), "blocks do not fit the postings");
  }
  require(room == blocks.shape(0), "blocks do not fit the postings");
  std::vector<std::uint32_t> rows(total);
  std::vector<std::uint16_t> frequencies(total);
  {
    nb::gil_scoped_release unlocked;
    decode_postings(span_of(blocks), span_of(data), span_of(counts), row_count, rows, frequencies);
  }
  return nb::make_tuple(array_of(std::move(rows)), array_of(std::move(frequencies)));
}

nb::tuple find_of(const nb::list& held, const nb::list& lengths,
                  const Vector<const double>& weights, const Vector<const double>& slopes,
                  const std::optional<Words>& keep, double base, std::size_t k, double floor) {
  require(held.size() == lengths.size() && weights.shape(0) == held.size() &&
              slopes.shape(0) == held.size(),
          "a list has no weight, slope or lengths");
  require(k > 0, "nothing is to be found");
  std::vector<Lengths> arrays;
  std::vector<QueryTerm> terms;
  for (std::size_t term = 0; term < held.size(); ++term) {
    const PostingList& list = nb::cast<const HeldList&>(held[term]).list();
    arrays.push_back(nb::cast<Lengths>(lengths[term], false));
    require(list.row_count() <= arrays.back().shape(0), "a row has no length");
    require(!keep || 64 * keep->shape(0) >= list.row_count(), "words are too few for the rows");
    terms.push_back({&list, span_of(arrays.back()), weights(term), base, slopes(term)});
  }
  ScoredRows found;
  {
    nb::gil_scoped_release unlocked;
    found = find_best(terms, keep ? span_of(*keep) : std::span<const std::uint64_t>{}, k, floor);
  }
  return nb::make_tuple(array_of(std::move(found.rows)), array_of(std::move(found.scores)));
}

std::size_t count_of(const HeldList& held, const Words& keep) {
  require(64 * keep.shape(0) >= held.list().row_count(), "words are too few for the rows");
  nb::gil_scoped_release unlocked;
  return count_kept(held.list(), span_of(keep));
}

}  // namespace

void bind_text(nb::module_& module) {
  nb::class_<HeldList>(module, "PostingList")
      .def(nb::init<Bytes, Bytes, std::uint32_t, std::size_t, std::size_t>(), "blocks"_a, "data"_a,
           "data_start"_a, "count"_a, "row_count"_a)
      .def_prop_ro("count", &HeldList::count)
      .def("count_kept", count_of, "keep"_a.noconvert());
  module.def("encode_postings", encode_of, "starts"_a.noconvert(), "rows"_a.noconvert(),
             "frequencies"_a.noconvert(), "lengths"_a.noconvert());
  module.def("decode_postings", decode_of, "blocks"_a.noconvert(), "data"_a.noconvert(),
             "counts"_a.noconvert(), "row_count"_a);
  module.def("find_best", find_of, "lists"_a, "lengths"_a, "weights"_a.noconvert(),
             "slopes"_a.noconvert(), "keep"_a.none(), "base"_a, "k"_a, "floor"_a);
}

}  // namespace whimbrel
