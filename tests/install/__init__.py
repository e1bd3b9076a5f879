"""Installing the project as its users do, with the pips and Pythons that they have."""
