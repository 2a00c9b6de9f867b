// What the files that know Python share.
#pragma once

#include <Python.h>
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <cstdint>
#include <cstring>
#include <string>

#include "engine/dispatch.hpp"

// What struct calls a type; a uint64 is an unsigned long or, where that has 32 bits, an unsigned long long.
template <class T>
struct Format;
template <>
struct Format<float> {
    static constexpr const char *name = "float32", *codes = "f";
};
template <>
struct Format<int32_t> {
    static constexpr const char *name = "int32", *codes = "i";
};
template <>
struct Format<uint64_t> {
    static constexpr const char *name = "uint64", *codes = sizeof(long) == 8 ? "LQ" : "Q";
};

// The beginning of a numpy.ndarray (PyArrayObject_fields of its C API, the same since NumPy 1.7).
struct ArrayHead {
    PyObject head;
    char* data;
    int dimensions;
    Py_ssize_t *shape, *strides;
    PyObject *base, *type;  // `type`: the dtype
    int flags;
};

// A buffer of such a type, C-contiguous and aligned, for the length of a call. Not nb::ndarray, whose import takes
// 0.25 us an array (and memory): that is more than scoring a document does. Python's buffer protocol takes 0.1 us of an
// array, and more where caches are cold, so it is asked once for each dtype: arrays of a dtype that had a fitting
// format before are looked at directly.
template <class T>
class Buffer {
  public:
    Buffer(nanobind::handle object, int dimensions, bool writable, const char* name) : object_(object.ptr()) {
        constexpr int contiguous = 0x1, aligned = 0x100, writeable = 0x400;  // as NumPy numbers them
        const ArrayHead* const array = reinterpret_cast<const ArrayHead*>(object_);
        if (known_ != nullptr && Py_TYPE(object_) == array_type_ && array->type == known_) {
            const int needed = contiguous | aligned | (writable ? writeable : 0);
            if (array->dimensions == dimensions && (array->flags & needed) == needed) {
                Py_INCREF(object_);
                data_ = array->data;
                shape_ = array->shape;
                return;
            }
        }
        const int flags = PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | (writable ? PyBUF_WRITABLE : 0);
        if (PyObject_GetBuffer(object_, &view_, flags) != 0) {
            PyErr_Clear();
            throw nanobind::type_error((std::string(name) + " must be a C-contiguous array").c_str());
        }
        by_protocol_ = true;
        const char* format = view_.format;
        if (view_.ndim != dimensions || format == nullptr || format[0] == 0 || format[1] != 0 ||
            std::strchr(Format<T>::codes, format[0]) == nullptr ||
            reinterpret_cast<uintptr_t>(view_.buf) % alignof(T) != 0) {
            PyBuffer_Release(&view_);
            throw nanobind::type_error((std::string(name) + " must be aligned " + Format<T>::name + " of " +
                                        std::to_string(dimensions) + " dimensions")
                                           .c_str());
        }
        data_ = view_.buf;
        shape_ = view_.shape;
        if (known_ == nullptr && std::strcmp(Py_TYPE(object_)->tp_name, "numpy.ndarray") == 0) {
            array_type_ = Py_TYPE(object_);
            known_ = array->type;
            Py_INCREF(known_);  // for good: another dtype must not come to stand where it stood
        }
    }
    ~Buffer() {
        if (by_protocol_)
            PyBuffer_Release(&view_);
        else
            Py_DECREF(object_);
    }
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;

    T* data() const { return static_cast<T*>(data_); }
    size_t shape(int axis) const { return static_cast<size_t>(shape_[axis]); }

  private:
    static inline PyTypeObject* array_type_ = nullptr;
    static inline PyObject* known_ = nullptr;
    PyObject* object_;
    void* data_;
    const Py_ssize_t* shape_;
    bool by_protocol_ = false;
    Py_buffer view_;
};

using Floats = Buffer<float>;

template <class T>
using Vector = nanobind::ndarray<const T, nanobind::ndim<1>, nanobind::c_contig, nanobind::device::cpu>;

[[noreturn]] inline void refuse(const std::string& message) {
    throw nanobind::value_error(message.c_str());
}

template <class Array>
const typename Array::Scalar* sized(const Array& array, size_t expected, const char* name) {
    if (array.shape(0) != expected)
        refuse(std::string(name) + " has " + std::to_string(array.shape(0)) + " entries; expected " +
               std::to_string(expected));
    return array.data();
}

inline const prunus::Isa& isa_named(const std::string& name) {
    for (const prunus::Isa* isa : prunus::usable_isas())
        if (name == isa->name) return *isa;
    refuse("instruction set '" + name + "' is not in this build or not on this CPU");
}
