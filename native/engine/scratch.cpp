#include "scratch.hpp"

#include <new>

namespace prunus {
namespace {

constexpr std::align_val_t alignment{64};

struct Scratch {
    float* data = nullptr;
    size_t floats = 0;
    ~Scratch() { ::operator delete(data, alignment); }
};

}  // namespace

float* thread_scratch(size_t floats) noexcept {
    thread_local Scratch scratch;
    if (scratch.floats < floats) {
        float* grown = static_cast<float*>(::operator new(floats * sizeof(float), alignment, std::nothrow));
        if (grown == nullptr) return nullptr;
        ::operator delete(scratch.data, alignment);
        scratch.data = grown;
        scratch.floats = floats;
    }
    return scratch.data;
}

}  // namespace prunus
