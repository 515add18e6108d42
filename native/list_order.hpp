// The order in which posting lists are scanned: ranks of many, of which a few best are wanted.
// src/whimbrel/kernel/numpy_probe.py is the specification.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace whimbrel {

struct RankedList {
  float rank;
  std::uint32_t list;
};

inline bool before(const RankedList& a, const RankedList& b) {
  return a.rank != b.rank ? a.rank < b.rank : a.list < b.list;
}

// Puts z in the place of the squared distances of lists' centroids, for neighbours at the squared
// distance `near`; infinity where it is no number. Lists that are not there stay so. `spreads` are
// float32 at any address.
void rank_by_nearness(std::span<float> squares, const unsigned char* spreads, float near);

// Ranks of lists that are numbered through. It takes a pass over all of them to find some, so
// whoever wants the best ones should ask for as many as it will need.
class ListOrder {
 public:
  // Takes the memory of the thread's last order: given back to the system after each query, it
  // would have to be cleared for the next one, which takes longer than filling it.
  ListOrder();
  ~ListOrder();
  ListOrder(const ListOrder&) = delete;
  ListOrder& operator=(const ListOrder&) = delete;

  // Adds `count` lists that are not wanted.
  void add_unwanted(std::size_t count);

  // Adds `count` lists, and returns their ranks for the caller to write: numbers, or infinity.
  std::span<float> add(std::size_t count);

  // Takes a list away.
  void remove(std::uint32_t list);

  // Returns the ranks of a range of lists, for the caller to replace.
  std::span<float> ranks_of(std::size_t first, std::size_t count);

  // Returns how many lists there are and were, so the number of the next one.
  std::size_t size() const { return ranks_.size(); }

  // Returns how many lists are left.
  std::size_t left() const { return left_; }

  // Finds the best `count` lists, or some more, in no order: all that are not behind the last of
  // them. All there are when they are fewer.
  void find_best(std::size_t count, std::vector<RankedList>& found) const;

  // Finds all lists that are left, in the order of their numbers.
  void find_all(std::vector<RankedList>& found) const;

 private:
  float limit_for(std::size_t count) const;
  void find_within(float limit, std::vector<RankedList>& found) const;

  std::vector<float> ranks_;  // not a number where a list is not there
  std::size_t left_ = 0;
};

}  // namespace whimbrel
