// Packs the input stage of a network: what it leaves, kernels/input.inl reads.
#include <algorithm>
#include <numeric>

#include "network.hpp"

namespace prunus {
namespace {

constexpr uint32_t run_count = kind_count * 2;

// Groups in a chunk: with four vectors of 16 documents, 8 KiB of raw features and as much of slots. Of 2, 4, 8, 16 and
// all 34, 4 to 16 were equal on Zen 4 (32 KiB L1d), and all of them 5 % slower.
constexpr uint32_t chunk_groups = 8;

}  // namespace

void Network::pack_inputs(const Description& d, std::vector<uint32_t>& position) {
    std::vector<uint32_t> raw_row(d.slots), run(d.slots);
    for (uint32_t s = 0; s < d.slots; ++s) {
        const uint32_t feature = static_cast<uint32_t>(d.feature[s]);
        if (read_.empty() || read_.back() != feature) read_.push_back(feature);
        const uint32_t last_group = d.features < 4 ? 0 : d.features - 4;
        if (groups_.empty() || feature >= groups_.back() + 4) groups_.push_back(std::min(feature, last_group));
        const uint32_t group = static_cast<uint32_t>(groups_.size() - 1), chunk = group / chunk_groups;
        raw_row[s] = group % chunk_groups * 4 + feature - groups_.back();
        run[s] = chunk * run_count + d.kind[s] * 2 + (d.allow_missing[d.feature[s]] ? 1 : 0);
    }
    std::vector<uint32_t> order(d.slots);
    std::iota(order.begin(), order.end(), 0u);
    std::stable_sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) { return run[a] < run[b]; });
    position.resize(d.slots);
    for (uint32_t place = 0; place < d.slots; ++place) {
        const uint32_t s = order[place];
        position[s] = place;
        feature_of_place_.push_back(static_cast<uint32_t>(d.feature[s]));
        const bool is_log = d.kind[s] == static_cast<uint8_t>(Kind::log);
        const float center = is_log ? -d.center[s] * d.scale[s] : d.center[s];
        const float scale = is_log ? static_cast<float>(d.scale[s] * log_unit) : d.scale[s];
        slots_.push_back({raw_row[s], center, scale, d.lower[s], d.upper[s], d.fill[s]});
    }
    pack_chunks(run, order);
    pack_lines(d.features);
    pack_lanes();
}

// Features that a row of the next tile is asked for by: at most 16 apart, wherever a line begins.
void Network::pack_lines(uint32_t features) {
    for (uint32_t first : groups_) {
        const uint32_t last = std::min(first + 4, features) - 1;
        if (lines_.empty() || first > lines_.back() + 13) lines_.push_back(first);
        if (last > lines_.back()) {
            // The end of the groups so far: moved along while it stays within reach of the one before.
            if (lines_.size() > 1 && last <= lines_[lines_.size() - 2] + 16)
                lines_.back() = last;
            else
                lines_.push_back(last);
        }
    }
}

// The ends of the runs of one chunk and kind, in slots that are sorted by run.
void Network::pack_chunks(const std::vector<uint32_t>& run, const std::vector<uint32_t>& order) {
    const uint32_t group_count = static_cast<uint32_t>(groups_.size());
    uint32_t place = 0;
    for (uint32_t c = 0; c * chunk_groups < group_count; ++c) {
        Chunk chunk{};
        chunk.groups_end = std::min(group_count, (c + 1) * chunk_groups);
        for (uint32_t r = 0; r < run_count; ++r) {
            while (place < order.size() && run[order[place]] <= c * run_count + r) ++place;
            chunk.slot_end[r / 2][r % 2] = place;
        }
        chunks_.push_back(chunk);
    }
}

// The slots of one document alone: `lanes` slots of one kind to a vector. A vector that a kind does not fill repeats
// the kind's last slot.
void Network::pack_lanes() {
    lane_of_.resize(slots_.size());
    for (uint32_t run = 0; run < run_count; ++run) {
        std::vector<uint32_t> slots;  // places of the slots of this run, in all chunks
        uint32_t begin = 0;
        for (const Chunk& chunk : chunks_) {
            const uint32_t* ends = &chunk.slot_end[0][0];
            for (uint32_t p = run == 0 ? begin : ends[run - 1]; p < ends[run]; ++p) slots.push_back(p);
            begin = ends[run_count - 1];
        }
        for (size_t first = 0; first < slots.size(); first += isa_.lanes) {
            const size_t block = lane_params_.size();
            lane_params_.resize(block + 5 * isa_.lanes);
            for (uint32_t lane = 0; lane < isa_.lanes; ++lane) {
                const uint32_t p = slots[std::min(first + lane, slots.size() - 1)];
                if (first + lane < slots.size()) lane_of_[p] = static_cast<uint32_t>(lane_features_.size());
                lane_features_.push_back(feature_of_place_[p]);
                const float values[5] = {slots_[p].center, slots_[p].scale, slots_[p].lower, slots_[p].upper,
                                         slots_[p].fill};
                for (uint32_t i = 0; i < 5; ++i) lane_params_[block + i * isa_.lanes + lane] = values[i];
            }
        }
        packed_.lane_end[run / 2][run % 2] = static_cast<uint32_t>(lane_features_.size());
    }
}

uint32_t Network::raw_rows() const noexcept {
    return std::min(static_cast<uint32_t>(groups_.size()), chunk_groups) * 4;
}

void Network::point_at_inputs() noexcept {
    packed_.groups = groups_.data();
    packed_.slots = slots_.data();
    packed_.slot_count = static_cast<uint32_t>(slots_.size());
    packed_.chunks = chunks_.data();
    packed_.chunk_count = static_cast<uint32_t>(chunks_.size());
    packed_.lines = lines_.data();
    packed_.line_count = static_cast<uint32_t>(lines_.size());
    const uint32_t requests = packed_.line_count * packed_.tile * isa_.lanes / 4;
    packed_.lines_a_slot = std::max(1u, requests / packed_.slot_count);
    packed_.lane_features = lane_features_.data();
    packed_.lane_params = lane_params_.data();
    packed_.lane_of = lane_of_.data();
}

}  // namespace prunus
