fn main() {
    tapswitch::demo::run(&mut std::io::stdout()).unwrap();
}
