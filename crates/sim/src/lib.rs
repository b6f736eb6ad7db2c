//! Nothing: the simulator is a test (`tests/sim`), in a package of its own so that it is
//! built without the program.
