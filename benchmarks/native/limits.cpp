// What one core can do at most: loops with nothing in them but the instruction that is measured. Built on the fly and
// called by benchmarks/kernels.py, which times them in turn with the engine.
#include <immintrin.h>

#include <cstddef>

namespace {

// Sums in flight: more than latency times throughput of a multiply-add on any x86 so far (4 x 2, 5 x 2), and few enough
// that they and two operands fit the registers (16 of 256 bits, 32 of 512).
constexpr int sums_256 = 12, sums_512 = 24;

// Four kilobytes of floats, read over and over: in L1 whatever else is there.
alignas(64) float near_by[1024];

#define LIMITS_AVX2 __attribute__((target("avx2,fma"), noinline))
#define LIMITS_AVX512 __attribute__((target("avx512f"), noinline))
#define LIMITS_UNROLL _Pragma("GCC unroll 32")

// The four loops of one vector width. Each instruction is written as assembly: a compiler would see that the loops have
// no effect. The second loop takes an operand from L1, as a kernel that multiplies one weight by many documents must.
#define LIMITS_LOOPS(target, bits, Reg, sums)                                                                          \
    target void multiply_add_##bits(long turns) {                                                                      \
        Reg sum[sums] = {}, a{}, b{};                                                                                  \
        for (; turns > 0; --turns) {                                                                                   \
            LIMITS_UNROLL                                                                                              \
            for (int i = 0; i < sums; ++i) __asm__ volatile("vfmadd231ps %1, %2, %0" : "+v"(sum[i]) : "v"(a), "v"(b)); \
        }                                                                                                              \
    }                                                                                                                  \
    target void multiply_add_loaded_##bits(long turns) {                                                               \
        Reg sum[sums] = {}, a{};                                                                                       \
        const Reg* p = reinterpret_cast<const Reg*>(near_by);                                                          \
        for (; turns > 0; --turns) {                                                                                   \
            LIMITS_UNROLL                                                                                              \
            for (int i = 0; i < sums; ++i)                                                                             \
                __asm__ volatile("vfmadd231ps %1, %2, %0" : "+v"(sum[i]) : "m"(p[i]), "v"(a));                         \
        }                                                                                                              \
    }                                                                                                                  \
    target void load_##bits(long turns) {                                                                              \
        Reg x[sums];                                                                                                   \
        const Reg* p = reinterpret_cast<const Reg*>(near_by);                                                          \
        for (; turns > 0; --turns) {                                                                                   \
            LIMITS_UNROLL                                                                                              \
            for (int i = 0; i < sums; ++i) __asm__ volatile("vmovaps %1, %0" : "=v"(x[i]) : "m"(p[i]));                \
        }                                                                                                              \
    }                                                                                                                  \
    target void store_##bits(long turns) {                                                                             \
        Reg x{}, *p = reinterpret_cast<Reg*>(near_by);                                                                 \
        for (; turns > 0; --turns) {                                                                                   \
            LIMITS_UNROLL                                                                                              \
            for (int i = 0; i < sums; ++i) __asm__ volatile("vmovaps %1, %0" : "=m"(p[i]) : "v"(x));                   \
        }                                                                                                              \
    }

LIMITS_LOOPS(LIMITS_AVX2, 256, __m256, sums_256)
LIMITS_LOOPS(LIMITS_AVX512, 512, __m512, sums_512)

// Four bytes by four into each 32-bit lane, and the same with an operand from L1.
__attribute__((target("avx512f,avx512vnni"), noinline)) void bytes_512(long turns) {
    __m512i sum[sums_512] = {}, a{}, b{};
    for (; turns > 0; --turns) {
        LIMITS_UNROLL
        for (int i = 0; i < sums_512; ++i) __asm__ volatile("vpdpbusd %1, %2, %0" : "+v"(sum[i]) : "v"(a), "v"(b));
    }
}

__attribute__((target("avx512f,avx512vnni"), noinline)) void bytes_loaded_512(long turns) {
    __m512i sum[sums_512] = {}, a{};
    const __m512i* p = reinterpret_cast<const __m512i*>(near_by);
    for (; turns > 0; --turns) {
        LIMITS_UNROLL
        for (int i = 0; i < sums_512; ++i) __asm__ volatile("vpdpbusd %1, %2, %0" : "+v"(sum[i]) : "m"(p[i]), "v"(a));
    }
}

}  // namespace

extern "C" {

// Vector instructions of `kind` (0: multiply-add, 1: the same with an operand from L1, 2: load from L1, 3: store to L1,
// 4: multiply-add of four bytes in each lane, 5: the same with an operand from L1; these two of 512 bits only) in one turn of a loop over vectors of `bits`; runs that many turns. 0 where there is no such loop or the CPU lacks
// it.
int limits_run(int bits, int kind, long turns) {
    __builtin_cpu_init();
    if (kind < 0 || kind > 5) return 0;
    if (bits == 256 && kind < 4 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
        void (*const loops[])(long) = {multiply_add_256, multiply_add_loaded_256, load_256, store_256};
        loops[kind](turns);
        return sums_256;
    }
    if (bits == 512 && kind >= 4) {
        if (!__builtin_cpu_supports("avx512vnni")) return 0;
        kind == 4 ? bytes_512(turns) : bytes_loaded_512(turns);
        return sums_512;
    }
    if (bits == 512 && __builtin_cpu_supports("avx512f")) {
        void (*const loops[])(long) = {multiply_add_512, multiply_add_loaded_512, load_512, store_512};
        loops[kind](turns);
        return sums_512;
    }
    return 0;
}
}
