// Trees laid out for blocks of documents: see Part.
#include <algorithm>
#include <limits>
#include <map>
#include <set>

#include "codes.hpp"
#include "forest.hpp"
#include "tree.hpp"

namespace prunus {
namespace forest {
namespace {

// Distinct masks of a part. More would leave the cache between being computed and being used.
constexpr size_t part_masks = 24 * 1024;

// Trees whose operations are mixed, so that few wait for the one before. With 1, 2, 4, 8 and 16, an operation on 512
// documents took 13.8, 9.7, 7.1, 5.8 and 5.9 cycles on Zen 4; on 256 documents 4.4, 4.1, 3.7, 3.7 and 3.7.
constexpr uint32_t interleaved = 8;

// A threshold as a node reads it; the two zeros are one threshold.
using Question = std::pair<uint32_t, float>;  // column, threshold

Question question_of(const Description& d, const std::vector<uint32_t>& column_of, size_t node) {
    return {column_of[node], d.category[node] < 0 ? d.threshold[node] + 0.0f : 0.0f};
}

// Thresholds in the order in which a search meets them; see Search.
std::vector<float> search_table(const std::vector<float>& thresholds, uint32_t levels) {
    std::vector<float> table(search_level(levels), std::numeric_limits<float>::infinity());
    for (uint32_t level = 0; level < levels; ++level)
        for (uint32_t path = 0; path < 1u << level; ++path) {
            uint32_t before = 0;  // decisions so far as a number, the first one the highest bit
            for (uint32_t l = 0; l < level; ++l) before = before * 2 + (path >> l & 1);
            const size_t place = ((2 * static_cast<size_t>(before) + 1) << (levels - 1 - level)) - 1;
            if (place < thresholds.size()) table[search_level(level) + path] = thresholds[place];
        }
    return table;
}

}  // namespace

size_t search_level(uint32_t level) {
    return level <= 4 ? size_t{16} * level : 80 + 32 * ((size_t{1} << (level - 5)) - 1);
}

// Masks are numbered by column and rising threshold, after the work slots.
void Forest::pack_inputs(const std::map<Question, uint32_t>& questions, Part& part) {
    std::vector<Load> loads;
    std::vector<Search> searches;
    std::vector<Member> members;
    const uint32_t last_load = packed_.features < 4 ? 0 : packed_.features - 4;
    for (auto at = questions.begin(); at != questions.end();) {
        const uint32_t number = at->first.first;
        const Column& column = columns_[number];
        if (loads.empty() || column.feature >= loads.back().feature + 4)
            loads.push_back({std::min(column.feature, last_load), 0, 0});
        const uint32_t row = column.feature - loads.back().feature, slot = at->second;
        std::vector<float> thresholds;
        for (; at != questions.end() && at->first.first == number; ++at) thresholds.push_back(at->first.second);
        if (column.variant == Variant::category) {
            members.push_back({row, column.category, slot});
        } else {
            uint32_t levels = 1;
            while ((1u << levels) <= thresholds.size()) ++levels;
            searches.push_back({row, column.variant, levels, static_cast<uint32_t>(thresholds.size()),
                                keep(search_table(thresholds, levels)), slot});
        }
        loads.back().search_end = static_cast<uint32_t>(searches.size());
        loads.back().member_end = static_cast<uint32_t>(members.size());
    }
    part.load_count = static_cast<uint32_t>(loads.size());
    part.loads = keep(loads);
    part.searches = keep(searches);
    part.members = keep(members);
}

void Forest::pack_part(const Description& d, Part& part, std::vector<Lookup>& lookups) {
    std::map<Question, uint32_t> questions;
    std::vector<Codes> codes;
    const uint32_t first = packed_.groups[part.first_group].first, last = packed_.groups[part.last_group - 1].last;
    for (int32_t node = d.node_start[first]; node < d.node_start[last]; ++node)
        questions[question_of(d, column_of_, static_cast<size_t>(node))] = 0;
    uint32_t roots = 0;
    for (uint32_t g = part.first_group; g < part.last_group; ++g) {
        uint32_t planes = 0;
        for (uint32_t t = packed_.groups[g].first; t < packed_.groups[g].last; ++t) {
            codes.emplace_back(d, t);
            planes += codes.back().planes();
        }
        roots = std::max(roots, planes);
    }
    // Work slots stand before the masks, so how many there are must be known first: emit once to count.
    std::vector<Op> ops;
    uint32_t work = 0;
    for (const Codes& tree : codes) {
        uint16_t plane[max_planes];
        const std::vector<uint16_t> none(tree.blocks().size());
        work = std::max(work, tree.emit(none, 0, 0, ops, plane));
    }
    ops.clear();
    uint32_t slot = slot_work + roots + interleaved * work;
    uint32_t column = UINT32_MAX;
    for (auto& question : questions) {
        // Where masks are words, they are stored by the cache line.
        if (question.first.first != column) slot = (slot + 7) / 8 * 8;
        column = question.first.first;
        question.second = slot++;
    }
    part.slots = slot;
    if (slot > slot_limit) return;
    std::vector<uint32_t> op_end;
    std::vector<std::vector<uint16_t>> masks;  // of each tree's nodes
    for (uint32_t g = part.first_group; g < part.last_group; ++g) {
        uint32_t root = slot_work, lane = 0;
        std::vector<std::vector<Op>> lanes(interleaved);
        for (uint32_t t = packed_.groups[g].first; t < packed_.groups[g].last; ++t, lane = (lane + 1) % interleaved) {
            std::vector<uint16_t> mask;
            for (int32_t node = d.node_start[t]; node < d.node_start[t + 1]; ++node)
                mask.push_back(static_cast<uint16_t>(questions[question_of(d, column_of_, static_cast<size_t>(node))]));
            const Codes& tree = codes[t - first];
            Lookup& lookup = lookups[t];
            lookup.planes = tree.planes();
            tree.emit(mask, static_cast<uint16_t>(root), static_cast<uint16_t>(slot_work + roots + lane * work),
                      lanes[lane], lookup.plane);
            for (uint32_t b = tree.planes(); b < max_planes; ++b) lookup.plane[b] = slot_zeros;
            root += tree.planes();
            masks.push_back(std::move(mask));
        }
        append_in_turn(lanes, ops);
        op_end.push_back(static_cast<uint32_t>(ops.size()));
    }
    for (uint32_t t = first; t < last; ++t) codes_.push_back(codes[t - first].blocks());
    part.eighths = slot <= slot_limit / 8;
    if (part.eighths)
        for (Op& op : ops)
            for (uint16_t* operand : {&op.mask, &op.a, &op.b, &op.dst}) *operand = static_cast<uint16_t>(*operand * 8);
    part.ops = keep(ops);
    part.op_end = keep(op_end);
    if (packed_.bytes.leaves != 0) pack_pairs(d, masks, part);
    pack_inputs(questions, part);
}

// The low and the high halves of values.
void Forest::keep_halves(const std::vector<int32_t>& values, const uint16_t** words) {
    for (int half = 0; half < 2; ++half) {
        std::vector<uint16_t> part;
        for (int32_t value : values) part.push_back(static_cast<uint16_t>(static_cast<uint32_t>(value) >> 16 * half));
        words[half] = keep(part);
    }
}

// Tables from codes to values, one behind the other, each as long as its group's index is wide.
void Forest::pack_tables(const Description& d, std::vector<Lookup>& lookups) {
    std::vector<uint32_t> widths;
    std::vector<int32_t> coarse, fine, leaf_of;
    for (uint32_t g = 0; g < packed_.group_count; ++g) {
        uint32_t width = 5;
        for (uint32_t t = packed_.groups[g].first; t < packed_.groups[g].last; ++t)
            width = std::max(width, lookups[t].planes);
        widths.push_back(width);
        for (uint32_t t = packed_.groups[g].first; t < packed_.groups[g].last; ++t) {
            lookups[t].table = static_cast<uint32_t>(coarse.size());
            const size_t end = coarse.size() + (size_t{1} << width);
            coarse.resize(end);
            leaf_of.resize(end);
            if (!fine_of_.empty()) fine.resize(end);
            for (size_t leaf = 0; leaf < codes_[t].size(); ++leaf) {
                const size_t number = static_cast<size_t>(d.leaf_start[t]) + leaf;
                const size_t begin = lookups[t].table + codes_[t][leaf].first, last = begin + codes_[t][leaf].count;
                for (size_t place = begin; place < last; ++place) {
                    coarse[place] = coarse_of_[number];
                    leaf_of[place] = static_cast<int32_t>(leaf);
                    if (!fine_of_.empty()) fine[place] = fine_of_[number];
                }
            }
        }
    }
    keep_halves(coarse, packed_.words);
    packed_.coarse = keep(coarse);
    if (!fine_of_.empty()) {
        keep_halves(fine, packed_.words + 2);
        packed_.fine = keep(fine);
    }
    packed_.leaf_of = keep(leaf_of);
    packed_.width = keep(widths);
}

void Forest::pack_blocks(const Description& d) {
    for (size_t t = 0; t < d.trees; ++t)
        if (d.leaf_start[t + 1] - d.leaf_start[t] > static_cast<int32_t>(max_leaves)) return;
    std::vector<Part> parts;
    std::set<Question> seen;
    for (uint32_t g = 0; g < packed_.group_count; ++g) {
        std::set<Question> own;
        for (int32_t node = d.node_start[packed_.groups[g].first]; node < d.node_start[packed_.groups[g].last]; ++node)
            own.insert(question_of(d, column_of_, static_cast<size_t>(node)));
        std::set<Question> with = seen;
        with.insert(own.begin(), own.end());
        if (parts.empty() || with.size() > part_masks) {
            parts.push_back({});
            parts.back().first_group = g;
            with = std::move(own);
        }
        parts.back().last_group = g + 1;
        seen = std::move(with);
    }
    pack_bytes(d);
    std::vector<Lookup> lookups(d.trees);
    for (Part& part : parts) {
        pack_part(d, part, lookups);
        if (part.slots > slot_limit) return;
        packed_.slots = std::max(packed_.slots, part.slots);
    }
    pack_tables(d, lookups);
    codes_ = {};
    packed_.parts = keep(parts);
    packed_.part_count = static_cast<uint32_t>(parts.size());
    packed_.lookups = keep(lookups);
}

}  // namespace forest
}  // namespace prunus
