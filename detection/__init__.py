"""The researcher's side: frames of a row, real and fake side by side, masks, degradations, training, scores.

In: a release, as a folder or at a Hub, whole or streamed. Out: arrays to train on, and numbers to trust.

    frames        frames of a row, decoded where they are needed, cut around the face
    pairs         each fake with the real clips that it was made from; each person with every fake
    degradations  named, seeded degradations of frames and of whole clips
    detectors     detectors by name: checkpoints of transformers, functions in files
    inference     a detector over the rows of a release -> predictions
    predictions   predictions of a detector, read strictly against the rows of a release
    metrics       metrics of many weightings at once, and the resamples of people that weight them
    scores        predictions -> an evaluation: overall, by group, with intervals; the matrix, a model card's block
    training      what models see of a release, kept on disk; rounds over folds of people; runs that go on
    exports       a release in the layouts of DeepfakeBench and FaceForensics++
    plots         ROC, DET, calibration, histograms of the scores
"""
