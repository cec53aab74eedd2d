// A device that is the CPU under another name: `pretend`. It has its own tensors, which the CPU's do not mix with.
//
// Follows PyTorch's example of a backend, test/cpp_extensions/open_registration_extension. Every operator without a
// kernel here first requires that all tensors are on one device, as CUDA does, and is then computed on the CPU.
#include <ATen/EmptyTensor.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/native/TensorFactories.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/convolution.h>
#include <ATen/ops/convolution_backward.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/resize_native.h>
#include <ATen/ops/set_native.h>
#include <ATen/ops/unfold_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <c10/core/impl/alloc_cpu.h>
#include <torch/library.h>

namespace {

constexpr auto PRETEND = c10::DeviceType::PrivateUse1;

struct PretendAllocator final : at::Allocator {
  at::DataPtr allocate(size_t size) override {
    void* data = c10::alloc_cpu(size);
    return {data, data, &c10::free_cpu, at::Device(PRETEND, 0)};
  }
  at::DeleterFnPtr raw_deleter() const override { return &c10::free_cpu; }
  void copy_data(void* to, const void* from, size_t count) const override { default_copy_data(to, from, count); }
};

PretendAllocator allocator;
REGISTER_ALLOCATOR(PRETEND, &allocator);

struct PretendGuard final : c10::impl::DeviceGuardImplInterface {
  PretendGuard() = default;
  explicit PretendGuard(c10::DeviceType) {}
  static constexpr c10::DeviceType static_type = PRETEND;
  c10::DeviceType type() const override { return PRETEND; }
  at::Device exchangeDevice(at::Device) const override { return getDevice(); }
  at::Device getDevice() const override { return at::Device(PRETEND, 0); }
  void setDevice(at::Device) const override {}
  void uncheckedSetDevice(at::Device) const noexcept override {}
  at::Stream getStream(at::Device) const noexcept override { return at::Stream(at::Stream::DEFAULT, getDevice()); }
  at::Stream getDefaultStream(at::Device device) const override { return getStream(device); }
  at::Stream exchangeStream(at::Stream stream) const noexcept override { return stream; }
  at::DeviceIndex deviceCount() const noexcept override { return 1; }
  void synchronizeDevice(at::DeviceIndex) const override {}
};

C10_REGISTER_GUARD_IMPL(PrivateUse1, PretendGuard);

struct PretendHooks final : at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(at::DeviceIndex) const override { return true; }
  at::DeviceIndex deviceCount() const override { return 1; }
  at::DeviceIndex getCurrentDevice() const override { return 0; }
};

at::Tensor empty(
    at::IntArrayRef size, std::optional<at::ScalarType> dtype, std::optional<at::Layout>, std::optional<at::Device>,
    std::optional<bool>, std::optional<at::MemoryFormat> format) {
  return at::detail::empty_generic(
      size, &allocator, c10::DispatchKeySet(c10::DispatchKey::PrivateUse1), c10::dtype_or_default(dtype), format);
}

at::Tensor empty_strided(
    at::IntArrayRef size, at::IntArrayRef stride, std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
    std::optional<at::Device>, std::optional<bool>) {
  return at::detail::empty_strided_generic(
      size, stride, &allocator, c10::DispatchKeySet(c10::DispatchKey::PrivateUse1), c10::dtype_or_default(dtype));
}

// the same memory as a tensor of the CPU
at::Tensor as_cpu(const at::Tensor& tensor) {
  if (tensor.is_cpu()) return tensor;
  return at::from_blob(tensor.data_ptr(), tensor.sizes(), tensor.strides(), tensor.options().device(at::kCPU));
}

at::Tensor copy_from(const at::Tensor& source, const at::Tensor& target, bool) {
  as_cpu(target).copy_(as_cpu(source));
  return target;
}

at::Tensor copy_from_and_resize(const at::Tensor& source, const at::Tensor& target) {
  at::native::resize_(target, source.sizes(), std::nullopt);
  return copy_from(source, target, false);
}

at::Tensor as_strided(
    const at::Tensor& self, at::IntArrayRef size, at::IntArrayRef stride, std::optional<int64_t> offset) {
  return at::native::as_strided_tensorimpl(self, size, stride, offset);
}

const at::Tensor& resize(const at::Tensor& self, at::IntArrayRef size, std::optional<at::MemoryFormat> format) {
  return at::native::resize_(self, size, format);
}

at::Tensor& set_storage(
    at::Tensor& self, at::Storage source, int64_t offset, at::IntArrayRef size, at::IntArrayRef stride) {
  return at::native::set_storage_cpu_(self, source, offset, size, stride);
}

// CUDA's rule: a tensor of the CPU may only be a number, which is not written to, or an index
void require_one_device(const c10::OperatorHandle& op, const torch::jit::Stack& stack) {
  const auto& arguments = op.schema().arguments();
  const auto given = torch::jit::last(stack, arguments.size());
  for (size_t number = 0; number < arguments.size(); ++number) {
    const auto& argument = arguments[number];
    if (argument.name() == "indices") continue;
    std::vector<at::Tensor> tensors;
    if (given[number].isTensor()) {
      tensors.push_back(given[number].toTensor());
    } else if (given[number].isTensorList()) {
      tensors = given[number].toTensorVector();
    } else if (given[number].isOptionalTensorList()) {
      for (const std::optional<at::Tensor>& tensor : given[number].toOptionalTensorList())
        if (tensor) tensors.push_back(*tensor);
    } else if (given[number].isGenerator()) {
      TORCH_CHECK(
          given[number].toGenerator().device().type() == PRETEND, "Expected a 'pretend' device type for generator but ",
          "found 'cpu', in ", op.schema().operator_name());
    }
    const bool written = argument.alias_info() && argument.alias_info()->isWrite();
    for (const at::Tensor& tensor : tensors)
      TORCH_CHECK(
          !tensor.defined() || !tensor.is_cpu() || (tensor.dim() == 0 && !written),
          "Expected all tensors to be on the same device, but found at least two devices, pretend:0 and cpu, in ",
          op.schema().operator_name(), ", argument ", argument.name());
  }
}

// TorchScript gives the indices of a tensor as a list of anything, whose tensors `cpu_fallback` would not see
void tell_indices(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const auto number = op.schema().argumentIndexWithName("indices");
  if (!number) return;
  auto& given = stack->at(stack->size() - op.schema().arguments().size() + *number);
  if (!given.isList() || given.isOptionalTensorList()) return;
  c10::List<std::optional<at::Tensor>> tensors;
  for (const c10::IValue& each : given.toListRef()) tensors.push_back(each.toOptional<at::Tensor>());
  given = tensors;
}

void fallback(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  require_one_device(op, *stack);
  tell_indices(op, stack);
  at::native::cpu_fallback(op, stack, /*error_on_views=*/true);
}

// what PyTorch asks another backend for in place of its own convolutions
at::Tensor convolution(
    const at::Tensor& input, const at::Tensor& weight, const std::optional<at::Tensor>& bias, at::IntArrayRef stride,
    at::IntArrayRef padding, at::IntArrayRef dilation, bool transposed, at::IntArrayRef output_padding,
    int64_t groups) {
  TORCH_CHECK(
      !input.is_cpu() && !weight.is_cpu() && (!bias || !bias->defined() || !bias->is_cpu()),
      "Expected all tensors to be on the same device, in convolution");
  const auto offset = bias && bias->defined() ? std::optional<at::Tensor>(as_cpu(*bias)) : std::nullopt;
  return at::convolution(
             as_cpu(input), as_cpu(weight), offset, stride, padding, dilation, transposed, output_padding, groups)
      .to(input.device());
}

std::tuple<at::Tensor, at::Tensor, at::Tensor> convolution_backward(
    const at::Tensor& gradient, const at::Tensor& input, const at::Tensor& weight, at::IntArrayRef stride,
    at::IntArrayRef padding, at::IntArrayRef dilation, bool transposed, at::IntArrayRef output_padding, int64_t groups,
    std::array<bool, 3> mask) {
  TORCH_CHECK(
      !gradient.is_cpu() && !input.is_cpu() && !weight.is_cpu(),
      "Expected all tensors to be on the same device, in convolution_backward");
  const int64_t outputs = transposed ? weight.size(1) * groups : weight.size(0);
  const auto found = at::convolution_backward(
      as_cpu(gradient), as_cpu(input), as_cpu(weight), std::optional<at::IntArrayRef>({outputs}), stride, padding,
      dilation, transposed, output_padding, groups, mask);
  const auto back = [&](const at::Tensor& tensor) { return tensor.defined() ? tensor.to(input.device()) : tensor; };
  return {back(std::get<0>(found)), back(std::get<1>(found)), back(std::get<2>(found))};
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m) {
  m.impl("empty.memory_format", &empty);
  m.impl("empty_strided", &empty_strided);
  m.impl("_copy_from", &copy_from);
  m.impl("_copy_from_and_resize", &copy_from_and_resize);
  m.impl("as_strided", &as_strided);
  m.impl("view", TORCH_FN(at::native::view));
  m.impl("_reshape_alias", TORCH_FN(at::native::_reshape_alias));
  m.impl("unfold", TORCH_FN(at::native::unfold));
  m.impl("resize_", &resize);
  m.impl("set_.source_Tensor", TORCH_FN(at::native::set_tensor_));
  m.impl("set_.source_Storage", TORCH_FN(at::native::set_));
  m.impl("set_.source_Storage_storage_offset", &set_storage);
  m.impl("convolution_overrideable", &convolution);
  m.impl("convolution_backward_overrideable", &convolution_backward);
  // the general one of PyTorch takes no slices whose channels come last
  m.impl("native_group_norm", torch::CppFunction::makeFromBoxedFunction<&fallback>());
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, m) {
  m.fallback(torch::CppFunction::makeFromBoxedFunction<&fallback>());
}

const bool registered = (at::RegisterPrivateUse1HooksInterface(new PretendHooks()), true);

}  // namespace
