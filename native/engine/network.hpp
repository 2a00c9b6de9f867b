// A network packed for one instruction set, and the call that scores documents with it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "../isa/isa.hpp"
#include "packed.hpp"

namespace prunus {

// A network as the caller gives it. Pointers are only read while Network::build runs.
struct LayerDescription {
    bool sparse;  // or, of an int8 layer, block-sparse
    bool int8;
    uint32_t inputs, outputs;
    Activation activation;
    const float* bias;                // [outputs]
    const float* weight;              // dense: [outputs][inputs]
    const int32_t *indptr, *indices;  // sparse: [outputs + 1], [stored]
    const float* values;              // sparse: [stored]
    size_t stored;
    // int8: weights [outputs][inputs], or [stored][4] of blocks, whose numbers are the indices
    const int8_t* steps;
    const float* scale;  // [outputs]
    float input_scale, input_zero;
};

struct Description {
    uint32_t features;
    const uint8_t* allow_missing;  // [features]
    uint32_t slots;
    const int32_t* feature;                              // [slots], rising
    const uint8_t* kind;                                 // [slots]
    const float *center, *scale, *lower, *upper, *fill;  // [slots]
    std::vector<LayerDescription> layers;
    uint32_t outputs = 1;  // of the last layer
};

// Flags of a status.
enum Status : int {
    status_ok = 0,
    status_missing = 1,    // a NaN in a feature whose schema forbids it
    status_infinite = 2,   // an infinity in a feature that is read
    status_no_memory = 4,  // no scratch memory; no score was written
};

// What is wrong with the pattern of a sparse layer whose indices must lie below `columns`, or an empty string; likewise
// with an int8 layer.
std::string check_pattern(const LayerDescription& layer, uint32_t columns, const std::string& name);
std::string check_int8(const LayerDescription& layer, const std::string& name);

class Network {
  public:
    // Check the description; returns what is wrong with it, or an empty string.
    static std::string check(const Description& description);

    // Pack a description that `check` passed. Throws std::bad_alloc only.
    Network(const Description& description, const Isa& isa);

    Network(const Network&) = delete;
    Network& operator=(const Network&) = delete;

    // Score n documents of X [n][features] into out [n][outputs]; returns Status flags. Thread-safe; allocates nothing
    // after a thread's first call, unless n_threads > 1.
    int score(const float* X, size_t n, float* out, unsigned n_threads) const noexcept;

    // The same in this thread, in memory that the caller has: `scratch` is 64-byte aligned, scratch_floats() long.
    int run(const float* X, size_t n, float* out, float* scratch) const noexcept;
    size_t scratch_floats() const noexcept;

    uint32_t features() const noexcept { return packed_.features; }
    uint32_t outputs() const noexcept { return packed_.outputs; }
    const Isa& isa() const noexcept { return isa_; }
    size_t tile() const noexcept { return static_cast<size_t>(packed_.tile) * isa_.lanes; }  // documents of a full tile

  private:
    int faults(const float* X, size_t n) const noexcept;

    void pack_inputs(const Description& description, std::vector<uint32_t>& position);
    void pack_chunks(const std::vector<uint32_t>& run, const std::vector<uint32_t>& order);
    void pack_lines(uint32_t features);
    void pack_lanes();
    uint32_t raw_rows() const noexcept;
    void point_at_inputs() noexcept;
    void pack_runs(const std::vector<uint32_t>& lengths, Layer& layer);
    Layer pack_layer(const LayerDescription& layer, std::vector<uint32_t>& position, bool last);
    uint32_t few_documents(const Description& description) const;
    Layer pack_int8(const LayerDescription& layer, std::vector<uint32_t>& position);
    void hand_on_bytes(Layer& before, const LayerDescription& described, const LayerDescription& after);

    const Isa& isa_;
    Packed packed_{};
    std::vector<uint8_t> allow_missing_;
    std::vector<uint32_t> read_;  // features that some slot reads
    std::vector<uint32_t> groups_;
    std::vector<Slot> slots_;
    std::vector<Chunk> chunks_;
    std::vector<uint32_t> lines_, lane_features_, lane_of_, feature_of_place_;
    std::vector<float> lane_params_;
    std::vector<Layer> layers_;
    std::vector<uint32_t> output_rows_;
    // What the layers point into; the inner vectors never change once built.
    std::vector<std::vector<float>> floats_;
    std::vector<std::vector<Weight>> weights_;
    std::vector<std::vector<Rows>> runs_;
    std::vector<std::vector<int32_t>> words_;
    std::vector<std::vector<uint32_t>> indices_;
    std::vector<std::unique_ptr<Int8Weights>> int8_;
};

}  // namespace prunus
