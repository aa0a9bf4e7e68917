"""Published weights, read without running anything in them.

A checkpoint is a pickle, and a pickle is a program. The readers here never hand one to Python's unpickler or to
`torch.load`: `pickle_stream` carries out the few instructions that data needs, on values that cannot be called, and
refuses every other instruction, name and object, naming it.

In: a downloaded file. Out, or a WeightsError in one line:

    torch_file.read_torch("net_G.pth")           .pth .pt .tar, zip or legacy: dicts, lists, numbers, tensors, `Bag`s
    stylegan_pickle.read_stylegan("ffhq.pkl")    class name, state dict and constructor arguments of a network
    onnx_file.read_onnx("inswapper_128.onnx")    inputs, outputs and initializers
    onnx_network.OnnxNetwork("r50.onnx")         a network that onnxruntime runs
    dlib_file.read_dlib("resnet_v1.dat")         convolutions of a network that dlib saved
    dlib_network.DlibNetwork("resnet_v1.dat")    that network, run by torch
    archive.unpack("all.tar.gz", folder)         the plain files in an archive

Tensors are views of the mapped file, so reading 700 MB takes no 700 MB of memory (numbers that a legacy file does not
align are copied, once, when their tensor is made). The file must not change while they are in use.

A converter takes the files of one generator and makes its pipeline; `generation.generators.conversion` runs it, writes
the folder for `from_pretrained`, and checks such folders later:

    checkpoint, arcface = files
    model = SwapNetwork()
    state = strip_prefix(state_dict(read_torch(checkpoint), file=str(checkpoint)), "module.")
    load_strict(model, state, file=str(checkpoint), allow_unexpected=("*.num_batches_tracked",))
    module = read_torch(arcface, bags=("models.arcface_models.ResNet", *LAYERS))  # a whole module, none of its code
    identity = state_dict(module, file=str(arcface))
"""
