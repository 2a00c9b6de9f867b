#include "id_table.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <new>

namespace prunus {
namespace click {
namespace {

constexpr std::align_val_t alignment{64};

unsigned shift_of(size_t ids) {
    unsigned bits = 1;  // a shift by 64 is not defined
    while ((size_t{1} << bits) < ids) ++bits;
    return 64 - bits;
}

}  // namespace

void IdTable::Free::operator()(float* rows) const noexcept {
    ::operator delete(rows, alignment);
}

std::string IdTable::check(const TableDescription& table, uint32_t dim) {
    if (table.ids >= static_cast<size_t>(std::numeric_limits<int32_t>::max()))
        return "a table has too many ids; expected at most 2^31 - 2";
    if (table.ids > 0 && table.keys[0] == 0) return "a table's keys hold 0, which is no id";
    for (size_t i = 1; i < table.ids; ++i)
        if (table.keys[i] <= table.keys[i - 1])
            return "a table's keys must rise; key " + std::to_string(i) + " does not";
    if (!std::all_of(table.rows, table.rows + (table.ids + 1) * dim, [](float x) { return std::isfinite(x); }))
        return "a table's rows hold NaN or infinity; expected finite numbers";
    return {};
}

IdTable::IdTable(const TableDescription& table, uint32_t dim, size_t stride)
    : shift_(shift_of(table.ids)),
      start_((size_t{1} << (64 - shift_)) + 1),
      keys_(table.keys, table.keys + table.ids),
      stride_(stride),
      rows_(static_cast<float*>(::operator new((table.ids + 1) * stride * sizeof(float), alignment))) {
    size_t at = 0;
    for (size_t high = 0; high < start_.size(); ++high) {
        while (at < keys_.size() && keys_[at] >> shift_ < high) ++at;
        start_[high] = static_cast<uint32_t>(at);
    }
    for (size_t row = 0; row <= table.ids; ++row) {
        float* to = rows_.get() + row * stride;
        std::copy_n(table.rows + row * dim, dim, to);
        std::fill(to + dim, to + stride, 0.0f);
    }
}

}  // namespace click
}  // namespace prunus
