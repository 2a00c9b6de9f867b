// The network with LIBXSMM 1.17: tiles of 64 documents in the lanes, layers with few weights through its packed CSR
// kernels, the others through its dense kernels. The input stage and the activations are plain loops that the compiler
// vectorises.
//
// A tile's values are kept by feature, 64 documents each: for the dense kernels that is a column-major matrix of 64
// rows, for the packed CSR kernels a matrix whose elements are vectors of PACKED documents.
#include <libxsmm.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

namespace {

constexpr int TILE = 64;
constexpr int PACKED = 16;                 // floats of one AVX-512 register
constexpr unsigned MOST_NON_ZEROS = 2000;  // 1.17's generator of CSR code crashes beyond some 2,100 of them
constexpr double MOST_DENSE = 0.4;         // above, the dense kernel is the faster one

enum Kind { VALUE, LOG, MISSING, EQUAL };
enum Activation { IDENTITY, RELU, RELU6, SIGMOID };

struct Layer {
    int n_out, n_in, activation;
    const float* weight;  // [n_out, n_in]
    const float* bias;
    std::vector<unsigned> row, column;
    std::vector<float> value;
    libxsmm_xmmfunction sparse{};
    libxsmm_smmfunction dense = nullptr;
};

struct Net {
    int n_features, n_slots;
    const int64_t* feature;
    const int64_t* kind;
    const float *center, *scale, *lower, *upper, *fill;
    std::vector<Layer> layers;
    float *h, *out;  // tiles, TILE floats for each value
};

bool is_nan(float x) {  // as bits: the compiler may assume that no float is NaN
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    return (bits & 0x7fffffffu) > 0x7f800000u;
}

void read_slot(const Net& net, int s, const float* X, int n, float* to) {
    const float* x = X + net.feature[s];
    const float c = net.center[s], k = net.scale[s], low = net.lower[s], high = net.upper[s], fill = net.fill[s];
    alignas(64) float v[TILE] = {};
    for (int d = 0; d < n; ++d) v[d] = x[static_cast<size_t>(d) * net.n_features];
    if (net.kind[s] == MISSING) {
        for (int d = 0; d < TILE; ++d) to[d] = is_nan(v[d]) ? 1.f : 0.f;
        return;
    }
    if (net.kind[s] == EQUAL) {
        for (int d = 0; d < TILE; ++d) to[d] = is_nan(v[d]) ? fill : (v[d] == c ? 1.f : 0.f);
        return;
    }
    alignas(64) float t[TILE];
    if (net.kind[s] == LOG)
        for (int d = 0; d < TILE; ++d) t[d] = std::copysign(logf(std::min(std::fabs(v[d]), 0x1p127f) + 1.f), v[d]);
    else
        for (int d = 0; d < TILE; ++d) t[d] = v[d];
    for (int d = 0; d < TILE; ++d) {
        const float z = std::min(std::max((t[d] - c) * k, low), high);
        to[d] = is_nan(v[d]) ? fill : z;
    }
}

void activate(float* h, size_t n, int activation) {
    if (activation == RELU)
        for (size_t i = 0; i < n; ++i) h[i] = std::max(h[i], 0.f);
    else if (activation == RELU6)
        for (size_t i = 0; i < n; ++i) h[i] = std::min(std::max(h[i], 0.f), 6.f);
    else if (activation == SIGMOID)
        for (size_t i = 0; i < n; ++i) h[i] = 1.f / (1.f + expf(-h[i]));
}

bool make_sparse(Layer& layer) {
    layer.row.push_back(0);
    for (int o = 0; o < layer.n_out; ++o) {
        for (int i = 0; i < layer.n_in; ++i)
            if (const float w = layer.weight[static_cast<size_t>(o) * layer.n_in + i]; w != 0.f) {
                layer.column.push_back(i);
                layer.value.push_back(w);
            }
        layer.row.push_back(layer.column.size());
    }
    const size_t n = layer.column.size();
    if (n > MOST_NON_ZEROS || n > MOST_DENSE * layer.n_out * layer.n_in) return false;
    libxsmm_descriptor_blob blob;
    // lda = 0 says that the first matrix is sparse; beta = 1 adds to the biases, which also covers rows without a
    // weight.
    const libxsmm_gemm_descriptor* wanted = libxsmm_gemm_descriptor_dinit(
        &blob, LIBXSMM_GEMM_PRECISION_F32, layer.n_out, TILE / PACKED, layer.n_in, 0, TILE / PACKED, TILE / PACKED, 1.0,
        1.0, LIBXSMM_GEMM_FLAG_NONE, LIBXSMM_GEMM_PREFETCH_NONE);
    layer.sparse = libxsmm_create_xcsr_soa(wanted, layer.row.data(), layer.column.data(), layer.value.data(), PACKED);
    return layer.sparse.smm != nullptr;
}

bool make_dense(Layer& layer) {
    const int m = TILE, n = layer.n_out, k = layer.n_in;
    const float one = 1.f;
    layer.dense = libxsmm_smmdispatch(m, n, k, &m, &k, &m, &one, &one, nullptr, nullptr);
    return layer.dense != nullptr;
}

}  // namespace

extern "C" {

// Makes a network over arrays that the caller keeps; null where LIBXSMM makes no code for a layer.
void* xsmm_new(int n_features, int n_slots, const int64_t* feature, const int64_t* kind, const float* const* stage,
               int n_layers, const int* shape, const float* const* weight, const float* const* bias) {
    libxsmm_init();
    auto net = std::make_unique<Net>();
    net->n_features = n_features, net->n_slots = n_slots, net->feature = feature, net->kind = kind;
    net->center = stage[0], net->scale = stage[1], net->lower = stage[2], net->upper = stage[3], net->fill = stage[4];
    size_t widest = n_slots;
    for (int l = 0; l < n_layers; ++l) {
        Layer& layer = net->layers.emplace_back();
        layer.n_out = shape[3 * l], layer.n_in = shape[3 * l + 1], layer.activation = shape[3 * l + 2];
        layer.weight = weight[l], layer.bias = bias[l];
        widest = std::max<size_t>(widest, layer.n_out);
    }
    for (Layer& layer : net->layers)
        if (!make_sparse(layer) && !make_dense(layer)) return nullptr;
    net->h = static_cast<float*>(libxsmm_aligned_malloc(widest * TILE * sizeof(float), 64));
    net->out = static_cast<float*>(libxsmm_aligned_malloc(widest * TILE * sizeof(float), 64));
    return net.release();
}

// How many layers run through the packed CSR kernels.
int xsmm_sparse_layers(const void* handle) {
    const Net& net = *static_cast<const Net*>(handle);
    return std::count_if(net.layers.begin(), net.layers.end(), [](const Layer& l) { return l.dense == nullptr; });
}

void xsmm_score(void* handle, const float* X, long n, float* scores) {
    Net& net = *static_cast<Net*>(handle);
    for (long start = 0; start < n; start += TILE) {
        const int rows = static_cast<int>(std::min<long>(TILE, n - start));
        for (int s = 0; s < net.n_slots; ++s)
            read_slot(net, s, X + static_cast<size_t>(start) * net.n_features, rows,
                      net.h + static_cast<size_t>(s) * TILE);
        for (const Layer& layer : net.layers) {
            for (int o = 0; o < layer.n_out; ++o)
                std::fill_n(net.out + static_cast<size_t>(o) * TILE, TILE, layer.bias[o]);
            if (layer.dense != nullptr)
                layer.dense(net.h, layer.weight, net.out);
            else
                layer.sparse.smm(layer.value.data(), net.h, net.out);
            activate(net.out, static_cast<size_t>(layer.n_out) * TILE, layer.activation);
            std::swap(net.h, net.out);
        }
        std::memcpy(scores + start, net.h, rows * sizeof(float));
    }
}

}  // extern "C"
