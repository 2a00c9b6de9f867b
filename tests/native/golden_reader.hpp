// Reads golden files: see tests/golden_files.py.
#pragma once

#include <cstdint>
#include <fstream>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

struct Array {
    std::string text;
    std::vector<float> floats;
    std::vector<double> doubles;
    std::vector<int32_t> ints;
    std::vector<int8_t> steps;
    std::vector<uint8_t> bytes;
};

class Arrays {
  public:
    Array& add(const std::string& name) { return arrays_[name]; }
    const Array& operator[](const std::string& name) const {
        const auto found = arrays_.find(name);
        if (found == arrays_.end()) throw std::runtime_error("no array " + name);
        return found->second;
    }
    bool has(const std::string& name) const { return arrays_.count(name) != 0; }

  private:
    std::map<std::string, Array> arrays_;
};

struct Case {
    std::string name;
    Arrays own;
    std::vector<Arrays> layers;
};

class Reader {
  public:
    explicit Reader(const char* path) : in_(path, std::ios::binary) {
        if (!in_) throw std::runtime_error(std::string("cannot open ") + path);
    }

    // The next case, or false at the end. An array "case" begins one, and an array "layer" each of its layers.
    bool next(Case& one) {
        one = Case{};
        if (!begun_ && !head()) return false;
        if (name_ != "case") throw std::runtime_error("a case begins with '" + name_ + "'");
        Array title;
        body(title);
        one.name = title.text;
        Arrays* into = &one.own;
        while (head() && name_ != "case") {
            if (name_ == "layer") into = &one.layers.emplace_back();
            body(into->add(name_));
        }
        begun_ = !name_.empty();
        return true;
    }

  private:
    // The head of the next array, or false where the file ends.
    bool head() {
        uint32_t size = 0;
        name_.clear();
        if (in_.peek() == std::ifstream::traits_type::eof()) return false;
        in_.read(reinterpret_cast<char*>(&size), sizeof size);
        name_.resize(in_ ? size : 0);
        in_.read(name_.data(), size);
        in_.read(&type_, 1);
        in_.read(reinterpret_cast<char*>(&count_), sizeof count_);
        if (!in_) throw std::runtime_error("the file ends inside of the head of an array");
        return true;
    }
    void body(Array& to) {
        switch (type_) {
            case 's':
                return fill(to.text);
            case 'f':
                return fill(to.floats);
            case 'd':
                return fill(to.doubles);
            case 'i':
                return fill(to.ints);
            case 'b':
                return fill(to.steps);
            case 'B':
                return fill(to.bytes);
            default:
                throw std::runtime_error("array " + name_ + " has the unknown type " + type_);
        }
    }
    template <class Values>
    void fill(Values& values) {
        values.resize(count_);
        in_.read(reinterpret_cast<char*>(values.data()), static_cast<std::streamsize>(count_ * sizeof(values[0])));
        if (!in_) throw std::runtime_error("the file ends inside of array " + name_);
    }

    std::ifstream in_;
    std::string name_;
    char type_ = 0;
    uint32_t count_ = 0;
    bool begun_ = false;
};
