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

nb::tuple decode_of(const HeldList& held) {
  const PostingList& list = held.list();
  std::vector<std::uint32_t> rows(list.count());
  std::vector<std::uint16_t> frequencies(list.count());
  {
    nb::gil_scoped_release unlocked;
    for (std::size_t number = 0; number < list.block_count(); ++number) {
      const std::size_t start = number * kBlockPostings;
      list.decode_rows(number, rows.data() + start);
      const PostingBlock block = list.block(number);
      for (std::size_t place = 0; place < list.size_of(number); ++place) {
        frequencies[start + place] =
            static_cast<std::uint16_t>(list.frequency(block, list.size_of(number), place));
      }
    }
  }
  return nb::make_tuple(array_of(std::move(rows)), array_of(std::move(frequencies)));
}

nb::tuple find_of(const nb::list& held, const Vector<const double>& weights,
                  const Lengths& lengths, const std::optional<Words>& keep, double base,
                  double slope, std::size_t k, double floor) {
  std::vector<const PostingList*> lists;
  lists.reserve(held.size());
  for (const nb::handle item : held) {
    lists.push_back(&nb::cast<const HeldList&>(item).list());
    require(lists.back()->row_count() <= lengths.shape(0), "a row has no length");
  }
  require(weights.shape(0) == lists.size(), "a list has no weight");
  require(!keep || 64 * keep->shape(0) >= lengths.shape(0), "words are too few for the rows");
  require(k > 0, "nothing is to be found");
  ScoredRows found;
  {
    nb::gil_scoped_release unlocked;
    found = find_best(lists, span_of(weights), span_of(lengths),
                      keep ? span_of(*keep) : std::span<const std::uint64_t>{}, {base, slope}, k,
                      floor);
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
      .def("decode", decode_of)
      .def("count_kept", count_of, "keep"_a.noconvert());
  module.def("encode_postings", encode_of, "starts"_a.noconvert(), "rows"_a.noconvert(),
             "frequencies"_a.noconvert(), "lengths"_a.noconvert());
  module.def("find_best", find_of, "lists"_a, "weights"_a.noconvert(), "lengths"_a.noconvert(),
             "keep"_a.none(), "base"_a, "slope"_a, "k"_a, "floor"_a);
}

}  // namespace whimbrel
