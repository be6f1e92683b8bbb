"""The Flower app that carries messages of Hanse. It needs Flower and the standard library, and no Hanse: it runs in
Flower's environment."""
