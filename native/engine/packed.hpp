// What a kernel sees of a network: plain structs and pointers into memory that Network owns.
//
// No inline function stands here: this header is compiled once for each instruction set, and an inline function would
// be emitted with AVX-512 code in a section that the linker may pick for everybody.
#pragma once

#include <cstddef>
#include <cstdint>

namespace prunus {

enum class Kind : uint32_t { value = 0, log = 1, missing = 2, equal = 3 };
enum class Activation : uint32_t { identity = 0, relu = 1, relu6 = 2, sigmoid = 3 };

constexpr uint32_t kind_count = 4;

// What kernels count logarithms in: powers of two are then the bits of a float's exponent, as an integer.
constexpr double log_unit = 0x1p-23 * 0.6931471805599453;

// One input slot: z = clamp((x - center) * scale, lower, upper), fill where x is NaN. For a logarithm `center` holds
// -center * scale: z = clamp(log(x) * scale + center, lower, upper); and `scale` counts in log_units.
struct Slot {
    uint32_t row;  // of the transposed raw features of its chunk
    float center, scale, lower, upper, fill;
};

// Groups of features that are loaded and turned into slots together, while they are in L1. Slots are sorted by chunk,
// inside a chunk by kind, inside a kind those without missing values first.
struct Chunk {
    uint32_t groups_end;               // end of its groups
    uint32_t slot_end[kind_count][2];  // [kind][missing allowed]: end of that run of slots
};

// One stored weight. The offset is the input's row times the bytes of that row in a tile of one vector (wide stream)
// or of one document (narrow stream); the kernel multiplies it by a constant that x86 folds into the address.
struct Weight {
    float value;
    uint32_t offset;
};

// `count` rows in a run that store `length` weights each.
struct Rows {
    uint32_t length, count;
};

// Outputs of one dense panel: weights are stored [panel][input][dense_panel].
// 12 is divisible by every block height that the kernels use (3, 4, 6 and 12).
constexpr uint32_t dense_panel = 12;

// Outputs of one panel of a dense int8 layer: weights are stored [panel][quad of inputs][int8_panel], a quad of weights
// in 32 bits each, or in two runs of int8_panel pairs of 16 bits (see Isa::int8_halves).
constexpr uint32_t int8_panel = 16;

// What a layer leaves for the next one: floats, or bytes in the steps of an int8 layer that follows, with or without
// the clamp that the activation is.
enum class Form : uint32_t { floats = 0, bytes = 1, clamped_bytes = 2 };

enum Stream : uint32_t { wide_stream = 0, narrow_stream = 1, stream_count = 2 };

// What a layer of int8 weights has beside what every layer has.
struct Int8Weights {
    bool dense;
    uint32_t quads;                        // of inputs: ceil(inputs / 4)
    const uint32_t* input_rows;            // [4 quads]: row of each input; any row past the last input
    float step_scale, step_zero;           // q = clamp(rint(fma(h, step_scale, step_zero)), 0, 255)
    float most;                            // an h whose byte is 255 and whose step is inside int32
    const int32_t* weights[stream_count];  // dense: panels, the same for both; blocks: weights and an offset each
    const float* scale;                    // [outputs], in stored order, then zeros up to a full panel
};

struct Layer {
    uint32_t inputs, outputs;
    bool sparse;
    bool sigmoid;        // applied in a pass of its own
    float lower, upper;  // every other activation is a clamp: identity +-inf, relu [0, inf], relu6 [0, 6]
    const float* bias;   // [outputs], in stored order, then zeros up to a full panel
    // sparse: rows in order of rising length, their weights one after another
    const Weight* weights[stream_count];
    const Rows* runs;
    uint32_t run_count;
    const Int8Weights* int8;      // null: the weights are floats
    Form form;                    // of the outputs
    float step_scale, step_zero;  // of the int8 layer that follows, where the outputs are bytes
    // dense
    const float* panels;  // [ceil(outputs / dense_panel)][inputs][dense_panel]
};

struct Packed {
    uint32_t features;  // columns of X
    uint32_t few;       // documents, at most a vector of them, up to which they are scored four at a time
    uint32_t tile;      // vectors of documents in a full tile: 4, or 2 (see Isa::largest_tile)
    bool halves_512;    // the CPU runs instructions of 512 bits as two of 256
    // input stage: groups of four neighbouring features are loaded and transposed together
    const uint32_t* groups;  // first feature of each group, at most features - 4
    const Slot* slots;
    uint32_t slot_count;
    const Chunk* chunks;
    uint32_t chunk_count;
    // features at most 16 apart (the floats of a cache line) that touch every line of a row from which a group is
    // loaded
    const uint32_t* lines;
    uint32_t line_count;
    uint32_t lines_a_slot;  // of four documents each, to ask for at each slot
    // the same slots for one document alone: vectors of slots of one kind
    const uint32_t* lane_features;     // [vector][lane]
    const float* lane_params;          // [vector][center, scale, lower, upper, fill][lane]
    uint32_t lane_end[kind_count][2];  // [kind][missing allowed]: end of that run, in lanes
    const uint32_t* lane_of;           // [slot]: where it stands
    // layers; the last one is stored apart, as one sparse row, unless there are several outputs
    uint32_t layer_count;
    const Layer* layers;
    Layer last;
    uint32_t outputs;              // of a document
    const uint32_t* output_rows;   // [outputs]: row of each in what the last of `layers` leaves; null: one output
    uint32_t rows_even, rows_odd;  // rows of the two scratch buffers
};

}  // namespace prunus
