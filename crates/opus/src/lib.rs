//! libopus behind the codec traits of `evenkeel-core`.
