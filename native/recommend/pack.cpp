// How item factors become what the kernels read.
#include <algorithm>
#include <cmath>

#ifdef __linux__
#include <sys/mman.h>
#endif

#include "recommender.hpp"

namespace prunus {
namespace recommend {
namespace {

constexpr size_t line = 64, large_page = size_t{1} << 21;  // bytes

std::shared_ptr<void> allocate(size_t bytes, size_t alignment) {
    const std::align_val_t to{alignment};
    return {::operator new(bytes, to), [to](void* memory) { ::operator delete(memory, to); }};
}

std::string check_rows(const Rows& rows, const Description& d, const std::string& name) {
    if (rows.rows != d.items) return name + " has " + std::to_string(rows.rows) + " rows; expected one for each item";
    if (rows.indptr[0] != 0 || static_cast<size_t>(rows.indptr[rows.rows]) != rows.stored)
        return "indptr of " + name + " must go from 0 to the number of its values";
    for (size_t row = 0; row < rows.rows; ++row) {
        if (rows.indptr[row + 1] < rows.indptr[row]) return "indptr of " + name + " falls";
        if (static_cast<size_t>(rows.indptr[row + 1]) > rows.stored) return "indptr of " + name + " exceeds its values";
        for (int32_t i = rows.indptr[row]; i < rows.indptr[row + 1]; ++i) {
            if (rows.factor[i] < 0 || static_cast<uint32_t>(rows.factor[i]) >= d.factors)
                return "a factor of " + name + " is out of range";
            if (i > rows.indptr[row] && rows.factor[i] <= rows.factor[i - 1])
                return "factors of " + name + " do not rise inside a row";
        }
    }
    return {};
}

bool on_levels(const Rows& rows, const float* step) {
    for (size_t row = 0; row < rows.rows; ++row)
        for (int32_t i = rows.indptr[row]; i < rows.indptr[row + 1]; ++i)
            if (!(std::fabs(rows.value[i]) <= 127.01f * step[row])) return false;
    return true;
}

int8_t level_of(float value, float step) {
    return static_cast<int8_t>(std::lrint(value / step));
}

// Whether item numbers rise and are below n; without a branch for each, so that it takes a few cycles for four.
bool rises(const int32_t* first, const int32_t* last, uint32_t n) {
    bool good = first == last || (*first >= 0 && static_cast<uint32_t>(last[-1]) < n);
    for (const int32_t* item = first; last - item > 1; ++item) good &= item[0] < item[1];
    return good;
}

uint32_t padded(size_t count) {
    return static_cast<uint32_t>((count + group - 1) / group * group);
}

}  // namespace

std::string Recommender::check(const Description& d) {
    constexpr uint32_t most = 1u << 24;
    if (d.items < 1 || d.items > most || d.factors < 1 || d.factors > most)
        return std::to_string(d.items) + " items of " + std::to_string(d.factors) + " factors; expected 1 to 2^24";
    std::string problem = check_rows(d.decode, d, "decode");
    if (problem.empty() && d.encode != nullptr) problem = check_rows(*d.encode, d, "encode");
    if (!problem.empty()) return problem;
    if (d.encode == nullptr && d.factors != d.items) return "item-item weights are no square";
    std::vector<bool> met(d.items);
    for (uint32_t place = 0; place < d.items; ++place) {
        const int32_t item = d.order[place];
        if (item < 0 || static_cast<uint32_t>(item) >= d.items || met[static_cast<size_t>(item)])
            return "order does not hold each item once";
        met[static_cast<size_t>(item)] = true;
    }
    if (d.step != nullptr && !on_levels(d.decode, d.step)) return "a value of decode lies on no level";
    if (d.encode != nullptr && d.encode_step != nullptr && !on_levels(*d.encode, d.encode_step))
        return "a value of encode lies on no level";
    return {};
}

std::string Recommender::check(const Request& request, size_t n_items) const {
    if (request.indptr[0] != 0 || static_cast<size_t>(request.indptr[request.users]) != n_items)
        return "indptr must go from 0 to the number of items in the histories";
    for (size_t user = 0; user < request.users; ++user) {
        const int32_t first = request.indptr[user], last = request.indptr[user + 1];
        if (last < first || static_cast<size_t>(last) > n_items) return "indptr of the histories falls";
        if (rises(request.items + first, request.items + last, packed_.items)) continue;
        for (int32_t i = first; i < last; ++i) {
            if (request.items[i] < 0 || static_cast<uint32_t>(request.items[i]) >= packed_.items)
                return "item " + std::to_string(request.items[i]) + " in a history; expected 0 to " +
                       std::to_string(packed_.items - 1);
            if (i > first && request.items[i] <= request.items[i - 1])
                return "items do not rise inside a history, without repeats";
        }
    }
    return {};
}

Recommender::Recommender(const Description& d, const RecommendIsa& isa) : isa_(isa), item_item_(d.encode == nullptr) {
    packed_.items = d.items;
    packed_.factors = d.factors;
    const uint32_t places = padded(d.items);
    std::vector<int32_t> item_at(places, -1), place_of(d.items);
    std::vector<float> bias(places, 0.0f);
    for (uint32_t place = 0; place < d.items; ++place) {
        const int32_t item = d.order[place];
        item_at[place] = item;
        place_of[static_cast<size_t>(item)] = static_cast<int32_t>(place);
        bias[place] = d.bias[item];
    }
    packed_.item_at = keep(item_at);
    packed_.bias = keep(bias);
    place_of_ = keep(place_of);
    if (!item_item_) pack_rows(d);
    if (!item_item_ && d.step != nullptr && isa.quads) pack_quads(d);
    if (!item_item_ && d.encode_step != nullptr && d.factors <= 65536)
        pack_encoder_levels(d);
    else
        pack_encoder(d);
    if (encode_rows_ != nullptr && isa.add_levels != nullptr) pack_encoder_dense(d);
    if (packed_.quads.blocks != 0 && d.encode->value == d.decode.value) {  // tied
        packed_.quads.levels = encode_dense_;
        packed_.quads.level_nibbles = encode_nibbles_;
        packed_.quads.stride = encode_stride_;
    }
}

void Recommender::pack_rows(const Description& d) {
    std::vector<uint32_t> start(d.items + 1, 0), length(d.items);
    for (uint32_t place = 0; place < d.items; ++place) {
        const int32_t item = d.order[place];
        length[place] = static_cast<uint32_t>(d.decode.indptr[item + 1] - d.decode.indptr[item]);
        start[place + 1] = start[place] + padded(length[place]);
    }
    std::vector<int32_t> factor(start[d.items], 0);
    std::vector<float> value(start[d.items], 0.0f);
    for (uint32_t place = 0; place < d.items; ++place) {
        const int32_t from = d.decode.indptr[d.order[place]];
        std::copy_n(d.decode.factor + from, length[place], factor.begin() + start[place]);
        std::copy_n(d.decode.value + from, length[place], value.begin() + start[place]);
    }
    packed_.start = keep(start);
    packed_.length = keep(length);
    packed_.factor = keep(factor);
    packed_.value = keep(value);
}

// Memory for an array and a cache line more. Large arrays share pages of 2 MB where the system has them: what a pass
// streams stands in L2 at addresses in a row then, of which none pushes another out, and few of them are translated.
char* Recommender::room(size_t bytes) {
    bytes = (bytes + line - 1) / line * line + line;
    if (bytes < large_page / 8) {
        kept_.push_back(allocate(bytes, line));
        return static_cast<char*>(kept_.back().get());
    }
    if (bytes > free_bytes_) {
        free_bytes_ = (bytes + large_page - 1) / large_page * large_page;
        kept_.push_back(allocate(free_bytes_, large_page));
        free_ = static_cast<char*>(kept_.back().get());
#ifdef MADV_HUGEPAGE
        madvise(free_, free_bytes_, MADV_HUGEPAGE);  // or not: then pages are small, and nothing else differs
#endif
    }
    char* const memory = free_;
    free_ += bytes;
    free_bytes_ -= bytes;
    return memory;
}

// The largest count of an item in a block decides how many steps its group takes there.
void Recommender::pack_quads(const Description& d) {
    const uint32_t places = padded(d.items), blocks = (d.factors + block - 1) / block;
    std::vector<uint32_t> counts(static_cast<size_t>(places) * blocks, 0);
    for (uint32_t place = 0; place < d.items; ++place)
        for (int32_t i = d.decode.indptr[d.order[place]]; i < d.decode.indptr[d.order[place] + 1]; ++i)
            ++counts[static_cast<size_t>(place) * blocks + static_cast<uint32_t>(d.decode.factor[i]) / block];
    std::vector<uint32_t> steps(static_cast<size_t>(places) / group * blocks);
    std::vector<size_t> starts(steps.size());
    size_t total = 0;
    for (uint32_t g = 0; g < places / group; ++g)
        for (uint32_t b = 0; b < blocks; ++b) {
            uint32_t most = 0;
            for (uint32_t i = 0; i < group; ++i)
                most = std::max(most, counts[static_cast<size_t>(g * group + i) * blocks + b]);
            const size_t at = static_cast<size_t>(g) * blocks + b;
            steps[at] = (most + 3) / 4;
            starts[at] = total;
            total += steps[at];
        }
    // A step takes some 7 cycles and a gathered value more than one (Zen 4): rows that fill under an eighth of the
    // steps are gathered.
    if (total * 64 > 8 * (d.decode.stored + 64 * static_cast<size_t>(places))) return;
    std::vector<char> stream(total * 128, 0);
    std::vector<float> step(places, 0.0f);
    std::vector<int32_t> level_sum(places, 0);
    std::vector<float> reach(places, 0.0f);
    for (uint32_t place = 0; place < d.items; ++place) {
        const int32_t item = d.order[place];
        step[place] = d.step[item];
        std::vector<uint32_t> used(blocks, 0);
        for (int32_t i = d.decode.indptr[item]; i < d.decode.indptr[item + 1]; ++i) {
            const uint32_t factor = static_cast<uint32_t>(d.decode.factor[i]), b = factor / block, n = used[b]++;
            const int8_t level = level_of(d.decode.value[i], d.step[item]);
            const size_t at = (starts[static_cast<size_t>(place / group) * blocks + b] + n / 4) * 128;
            stream[at + place % group * 4 + n % 4] = static_cast<char>(factor % block);
            stream[at + 64 + place % group * 4 + n % 4] = static_cast<char>(level);
            level_sum[place] -= 128 * level;
            reach[place] += 0.505f * std::fabs(d.decode.value[i]);
        }
    }
    const bool alike = std::all_of(d.step, d.step + d.items, [&](float x) { return x == d.step[0]; }) &&
                       std::all_of(d.bias, d.bias + d.items, [](float x) { return x == 0.0f; });
    packed_.quads = {blocks, keep(steps), keep(stream), keep(step), keep(level_sum), keep(reach),
                     alike,  nullptr,     false,        nullptr,    nullptr,         0};
    pack_nibbles(d, total);
}

// A vector of nibbles takes 2.3 cycles, a step 5.5 of one user and 2.2 of each of four (Zen 4, from L2 and L3). Sums of
// whole bytes of 2^16 factors are below 2^31.
void Recommender::pack_nibbles(const Description& d, size_t steps) {
    const size_t width = (static_cast<size_t>(d.factors) + 3) / 4 * 4, items = nibble_groups * group;
    const size_t vectors = (d.items + items - 1) / items * (nibble_groups / 2) * (width / 4);
    if (5 * steps < 2 * vectors || width > 1u << 16) return;
    std::vector<char> nibbles(vectors * 64, static_cast<char>(0x88));
    for (uint32_t place = 0; place < d.items; ++place) {
        const int32_t item = d.order[place];
        char* own =
            nibbles.data() + place / items * items / 2 * width + place % items / (2 * group) * 64 + place % group * 4;
        const uint32_t shift = place / group % 2 * 4;
        for (int32_t i = d.decode.indptr[item]; i < d.decode.indptr[item + 1]; ++i) {
            const int8_t level = level_of(d.decode.value[i], d.step[item]);
            if (level < -8 || level > 7) return;
            const size_t factor = static_cast<size_t>(d.decode.factor[i]);
            char& byte = own[factor / 4 * (nibble_groups / 2) * 64 + factor % 4];
            byte = static_cast<char>((byte & ~(15 << shift)) | (level + 8) << shift);
        }
    }
    packed_.quads.nibbles = keep(nibbles);
    packed_.quads.nibbles_for_many = vectors <= steps;
}

void Recommender::pack_encoder_levels(const Description& d) {
    const Rows& rows = *d.encode;
    std::vector<uint32_t> start(rows.indptr, rows.indptr + d.items + 1);
    std::vector<size_t> row(d.items + 1, 0);
    std::vector<float> step(d.items);
    for (uint32_t item = 0; item < d.items; ++item) {
        row[item + 1] = row[item] + (3 * static_cast<size_t>(start[item + 1] - start[item]) + 63) / 64 * 64;
        step[item] = d.scale[item] * d.encode_step[item];
    }
    std::vector<char> bytes(row[d.items]);
    for (uint32_t item = 0; item < d.items; ++item) {
        const uint32_t length = start[item + 1] - start[item];
        for (uint32_t i = 0; i < length; ++i) {
            const uint16_t factor = static_cast<uint16_t>(rows.factor[start[item] + i]);
            std::memcpy(&bytes[row[item] + 2 * i], &factor, 2);
            bytes[row[item] + 2 * length + i] =
                static_cast<char>(level_of(rows.value[start[item] + i], d.encode_step[item]));
        }
    }
    encode_start_ = keep(start);
    encode_row_ = keep(row);
    encode_rows_ = keep(bytes);
    encode_step_ = keep(step);
}

// Where all items have one step, their levels are whole numbers of it, and added as such, 32 in an instruction, or 64
// of four bits. A factor takes 0.06 or 0.03 cycles of a row so, a stored value 2.5 where they are added one by one
// (Zen 4).
void Recommender::pack_encoder_dense(const Description& d) {
    for (uint32_t item = 1; item < d.items; ++item)
        if (encode_step_[item] != encode_step_[0]) return;
    const Rows& rows = *d.encode;
    bool four_bits = true;
    for (uint32_t item = 0; item < d.items; ++item)
        for (int32_t i = rows.indptr[item]; i < rows.indptr[item + 1]; ++i) {
            const int8_t level = level_of(rows.value[i], d.encode_step[item]);
            four_bits &= -8 <= level && level <= 7;
        }
    const size_t unit = four_bits ? 128 : 256, stride = (d.factors + unit - 1) / unit * unit;
    if (stride * d.items > 16 * (rows.stored + 1)) return;
    std::vector<int8_t> levels(stride * d.items, 0);
    for (uint32_t item = 0; item < d.items; ++item)
        for (int32_t i = rows.indptr[item]; i < rows.indptr[item + 1]; ++i)
            levels[item * stride + static_cast<size_t>(rows.factor[i])] = level_of(rows.value[i], d.encode_step[item]);
    encode_stride_ = stride;
    if (!four_bits) {
        encode_dense_ = keep(levels);
        return;
    }
    std::vector<char> nibbles(levels.size() / 2);
    for (size_t i = 0; i < nibbles.size(); ++i) {
        const int8_t* low = levels.data() + i / 64 * 128 + i % 64;
        nibbles[i] = static_cast<char>((low[64] + 8) << 4 | (low[0] + 8));
    }
    encode_nibbles_ = keep(nibbles);
}

void Recommender::pack_encoder(const Description& d) {
    std::vector<uint32_t> start(d.items + 1, 0);
    const Rows& rows = item_item_ ? d.decode : *d.encode;
    std::vector<int32_t> at(rows.stored);
    std::vector<float> value(rows.stored);
    if (!item_item_) {
        std::copy_n(rows.indptr, d.items + 1, start.begin());
        std::copy_n(rows.factor, rows.stored, at.begin());
        for (uint32_t item = 0; item < d.items; ++item)
            for (uint32_t i = start[item]; i < start[item + 1]; ++i) value[i] = d.scale[item] * rows.value[i];
    } else {  // columns of the weights
        for (size_t i = 0; i < rows.stored; ++i) ++start[static_cast<size_t>(rows.factor[i]) + 1];
        for (uint32_t item = 0; item < d.items; ++item) start[item + 1] += start[item];
        std::vector<uint32_t> next(start.begin(), start.end() - 1);
        for (uint32_t place = 0; place < d.items; ++place)
            for (int32_t i = rows.indptr[d.order[place]]; i < rows.indptr[d.order[place] + 1]; ++i) {
                const size_t item = static_cast<size_t>(rows.factor[i]);
                at[next[item]] = static_cast<int32_t>(place);
                value[next[item]++] = d.scale[item] * rows.value[i];
            }
    }
    encode_start_ = keep(start);
    encode_at_ = keep(at);
    encode_value_ = keep(value);
}

}  // namespace recommend
}  // namespace prunus
